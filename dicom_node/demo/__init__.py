"""The demo: a simulated patient goes over the whole line and is compared with the truth."""

from __future__ import annotations

from dicom_node.demo.run import DemoOptions, DemoResult, run_demo

__all__ = ["DemoOptions", "DemoResult", "run_demo"]
