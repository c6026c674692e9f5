"""General Equipment and Contributing Equipment of derived images (PS3.3 C.7.5.1, C.12.1.1.5)."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset

from dicom_node.ct.attributes import texts
from dicom_node.ct.derived.codes import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT, Code, code_item
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.product import MANUFACTURER, MODEL_NAME

UNKNOWN: Final = "Unknown"
"""Manufacturer of a scanner that states none; the item written for it must have one."""

_LENGTHS: Final = {
    "ManufacturerModelName": 64,
    "DeviceSerialNumber": 64,
    "InstitutionName": 64,
    "InstitutionalDepartmentName": 64,
    "InstitutionAddress": 1024,
    "StationName": 16,
}
"""General Equipment attributes that move to the scanner's item, with the limits of their VRs."""

_SCANNER_ONLY: Final = (
    "StationName",
    "DeviceSerialNumber",
    "DeviceUID",
    "UDISequence",
    "GantryID",
    "SpatialResolution",
    "DateOfManufacture",
    "DateOfInstallation",
    "DateOfLastCalibration",
    "TimeOfLastCalibration",
)
"""General Equipment attributes that describe the scanner and would be wrong for this node."""


def name_equipment(
    derived: Dataset, source: Dataset, provenance: Provenance, options: DeriveOptions
) -> None:
    """Name scanner and node in a derived header; one contributor is added to the earlier ones."""
    contributors = list(derived.get("ContributingEquipmentSequence") or ())
    if options.equipment == "keep_scanner":
        contributors.append(_node(provenance))
    else:
        contributors.append(_scanner(source))
        _put_node_in_general_equipment(derived, provenance)
    derived.ContributingEquipmentSequence = contributors


def _put_node_in_general_equipment(derived: Dataset, provenance: Provenance) -> None:
    for keyword in _SCANNER_ONLY:
        if keyword in derived:
            delattr(derived, keyword)
    derived.Manufacturer = MANUFACTURER
    derived.ManufacturerModelName = MODEL_NAME
    derived.SoftwareVersions = _software(provenance)


def _node(provenance: Provenance) -> Dataset:
    item = _contributor(MANUFACTURER, PROCESSING_EQUIPMENT, "AI noise reduction in image space")
    item.ManufacturerModelName = MODEL_NAME
    item.SoftwareVersions = _software(provenance)
    return item


def _scanner(source: Dataset) -> Dataset:
    derived_already = next(iter(texts(source, "ImageType")), "") == "DERIVED"
    purpose = PROCESSING_EQUIPMENT if derived_already else ACQUISITION_EQUIPMENT
    manufacturer = (texts(source, "Manufacturer") or [UNKNOWN])[0][:64]
    item = _contributor(manufacturer, purpose, "Made the source images")
    for keyword, length in _LENGTHS.items():
        if found := texts(source, keyword):
            setattr(item, keyword, found[0][:length])
    if versions := [version[:64] for version in texts(source, "SoftwareVersions")]:
        item.SoftwareVersions = versions
    return item


def _contributor(manufacturer: str, purpose: Code, description: str) -> Dataset:
    """Make an item of the Contributing Equipment Sequence (PS3.3, table C.12-1)."""
    item = Dataset()
    item.Manufacturer = manufacturer
    item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
    item.ContributionDescription = description
    return item


def _software(provenance: Provenance) -> list[str]:
    model = f"model {provenance.model} {provenance.version}"[:64]
    weights = provenance.weights_sha256[:16] or "none"
    return [provenance.product_version, model, f"weights {weights}"]
