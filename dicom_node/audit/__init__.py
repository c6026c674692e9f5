"""DICOM audit trail (PS3.15 section A.5) of transfers, refusals and commands."""

from __future__ import annotations

from dicom_node.audit.trail import NO_AUDIT, Audit, Peer, open_audit
from dicom_node.audit.transfer import Transfer

__all__ = ["NO_AUDIT", "Audit", "Peer", "Transfer", "open_audit"]
