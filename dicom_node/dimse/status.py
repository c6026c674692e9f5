"""DIMSE status codes that this node sends, or acts on when a peer sends them.

Names are those of the standard; the general statuses are in the order of their codes.
"""

from __future__ import annotations

# General statuses (PS3.7, annex C); some are failure reasons of single instances in storage
# commitment and STOW-RS as well (PS3.3, C.14.1.1).
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT_VALUE = 0x0115
CLASS_INSTANCE_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

# Statuses of the Storage service class (PS3.4, B.2.3, table B.2-1): each failure has a whole range,
# whose first code this node sends.
OUT_OF_RESOURCES_RANGE = range(0xA700, 0xA800)
DATA_SET_MISMATCH_RANGE = range(0xA900, 0xAA00)
CANNOT_UNDERSTAND_RANGE = range(0xC000, 0xD000)

OUT_OF_RESOURCES = OUT_OF_RESOURCES_RANGE.start
DATA_SET_MISMATCH = DATA_SET_MISMATCH_RANGE.start
CANNOT_UNDERSTAND = CANNOT_UNDERSTAND_RANGE.start

# Warnings of any service class (PS3.7, C.4): the request was carried out. Storage has B000, B006
# and B007 (PS3.4, table B.2-1).
WARNING_RANGE = range(0xB000, 0xC000)


def status_text(status: int | None) -> str:
    """A status as people write it, such as ``0xA700``; ``none`` where a peer gave none."""
    return "none" if status is None else f"0x{status:04X}"
