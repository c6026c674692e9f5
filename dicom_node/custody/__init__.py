"""Ledger and storage folder as one: the identity that they share, and files that no ledger knows.

Neither the ledger nor the storage folder may decide alone what becomes of a received image: a
ledger that was lost, mistyped or put back from a backup knows less than the folder holds.
"""

from __future__ import annotations

from dicom_node.custody.faults import custody_faults
from dicom_node.custody.identity import Custody, open_custody
from dicom_node.custody.unknown import UNKNOWN_SECONDS, set_aside_unknown

__all__ = ["UNKNOWN_SECONDS", "Custody", "custody_faults", "open_custody", "set_aside_unknown"]
