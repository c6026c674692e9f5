"""General Equipment and Contributing Equipment of derived images (PS3.3 C.7.5.1, C.12.1.1.5)."""

from __future__ import annotations

from typing import Final

from highdicom import ContributingEquipment
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.ct.attributes import texts
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

_ARGUMENTS: Final = {
    "ManufacturerModelName": "manufacturer_model_name",
    "DeviceSerialNumber": "device_serial_number",
    "InstitutionName": "institution_name",
    "InstitutionalDepartmentName": "institutional_department_name",
    "InstitutionAddress": "institution_address",
    "StationName": "station_name",
}

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


def _node(provenance: Provenance) -> ContributingEquipment:
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=MODEL_NAME,
        software_versions=_software(provenance),
        contribution_description="AI noise reduction in image space",
    )


def _scanner(source: Dataset) -> ContributingEquipment:
    derived_already = next(iter(texts(source, "ImageType")), "") == "DERIVED"
    purpose = codes.DCM.ProcessingEquipment if derived_already else codes.DCM.AcquisitionEquipment
    details = {
        argument: texts(source, keyword)[0][: _LENGTHS[keyword]]
        for keyword, argument in _ARGUMENTS.items()
        if texts(source, keyword)
    }
    versions = [version[:64] for version in texts(source, "SoftwareVersions")]
    return ContributingEquipment(
        manufacturer=(texts(source, "Manufacturer") or [UNKNOWN])[0][:64],
        purpose_of_reference=purpose,
        software_versions=versions or None,
        contribution_description="Made the source images",
        **details,
    )


def _software(provenance: Provenance) -> list[str]:
    model = f"model {provenance.model} {provenance.version}"[:64]
    weights = provenance.weights_sha256[:16] or "none"
    return [provenance.product_version, model, f"weights {weights}"]
