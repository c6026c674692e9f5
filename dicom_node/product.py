"""Name, version and identifiers of the product, in headers, on associations and in packages."""

from __future__ import annotations

from typing import Final

MANUFACTURER: Final = "MAN node project"
"""Manufacturer (0008,0070) of derived series, in General or in Contributing Equipment."""

MODEL_NAME: Final = "MAN node"
"""Manufacturer's Model Name (0008,1090) of derived series."""

PRODUCT_VERSION: Final = "0.1.0"
"""Version of the product; hatch reads it from here when the package is built."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.305539343774671993782191497568080541729"
"""Implementation Class UID (0002,0012): a UUID drawn once for this product (PS3.5 annex B.2)."""

IMPLEMENTATION_VERSION_NAME: Final = f"MAN_NODE_{PRODUCT_VERSION}"
"""Implementation Version Name (0002,0013), at most 16 characters."""

UID_MARK: Final = 0x4D414E01
"""First 32 bits of the UUID in every derived UID: the letters MAN and the layout's version."""
