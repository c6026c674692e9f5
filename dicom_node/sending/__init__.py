"""The sender: derived images to their destinations, and this node's reports to those who asked."""

from __future__ import annotations

from dicom_node.sending.sender import Sender, run_sender

__all__ = ["Sender", "run_sender"]
