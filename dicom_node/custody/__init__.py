"""Custody of received images: ledger and storage folder as one unit with a shared identity.

Neither the ledger nor the storage folder decides alone about a received image: a ledger that was
lost, mistyped or restored from a backup knows less than the folder contains.
"""

from __future__ import annotations

from dicom_node.custody.faults import custody_faults
from dicom_node.custody.identity import Custody, open_custody
from dicom_node.custody.unknown import UNKNOWN_SECONDS, set_aside_unknown

__all__ = ["UNKNOWN_SECONDS", "Custody", "custody_faults", "open_custody", "set_aside_unknown"]
