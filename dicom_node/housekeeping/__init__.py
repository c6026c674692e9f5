"""Housekeeping: what has to happen because time has passed; one file a concern, one clock."""

from __future__ import annotations

from dicom_node.housekeeping.sweeps import run_housekeeping

__all__ = ["run_housekeeping"]
