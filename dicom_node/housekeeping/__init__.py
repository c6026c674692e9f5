"""Housekeeping: periodic sweeps, one file for each concern, with one clock."""

from __future__ import annotations

from dicom_node.housekeeping.sweeps import run_housekeeping

__all__ = ["run_housekeeping"]
