"""DICOM audit messages (PS3.15 section A.5): who sent what to whom, and who was refused."""

from __future__ import annotations

from dicom_node.audit.trail import SILENT, Audit, Peer, open_audit
from dicom_node.audit.transfer import Transfer

__all__ = ["SILENT", "Audit", "Peer", "Transfer", "open_audit"]
