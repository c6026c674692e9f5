"""Scope of the product: which images it can process, and which it processes by default.

Reasons are phrases for operators and never hold patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from dicom_node.ct.attributes import quoted
from dicom_node.ct.uids import is_derived_uid
from dicom_node.ct.units import is_hounsfield, is_unspecified
from dicom_node.product import MANUFACTURER, MODEL_NAME

MULTI_FRAME: Final = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""SOP classes of CT with all slices in one object."""


def is_own_result(dataset: Dataset) -> bool:
    """Whether this product made the image, whatever a PACS has changed in its header since.

    This is the loop guard. Any one sign is enough: the mark in the UIDs, or the product's name in
    General Equipment or in the Contributing Equipment Sequence.
    """
    uids = (dataset.get("SeriesInstanceUID"), dataset.get("SOPInstanceUID"))
    if any(is_derived_uid(str(uid)) for uid in uids if uid):
        return True
    contributors = dataset.get("ContributingEquipmentSequence") or ()
    return any(is_own_equipment(equipment) for equipment in (dataset, *contributors))


def reason_unprocessable(dataset: Dataset) -> str | None:
    """Return the reason an image can never be denoised, whatever the rules say; None if it can.

    Args:
        dataset: Header of one image; a missing attribute is no reason.
    """
    return _first_reason(dataset, _UNPROCESSABLE)


def reason_unreadable(dataset: Dataset) -> str | None:
    """Return the reason an image has no CT values in HU to read; None if it has, whoever made it.

    Unlike `reason_unprocessable`, it lets results of this product pass: for measuring them.
    """
    return _first_reason(dataset, _UNREADABLE)


def reason_out_of_scope(dataset: Dataset) -> str | None:
    """Return the reason an image's series is only denoised if a rule names it; None if in scope.

    In scope are original axial CT images in HU (PS3.3 C.8.2.1.1.1, Image Type).
    """
    return _first_reason(dataset, (*_UNPROCESSABLE, *_OUT_OF_SCOPE))


def is_localizer(dataset: Dataset) -> bool:
    """Whether Image Type says that the image is a localizer (PS3.3 C.8.2.1.1.1)."""
    try:
        return _localizer(dataset) is not None
    except Exception:  # a value of a wrong type can break its converter in any way
        return False


def without_localizers(images: Sequence[Dataset]) -> list[int]:
    """Return the indices of the images that are no localizers; all where there are no others."""
    kept = [index for index, image in enumerate(images) if not is_localizer(image)]
    return kept or list(range(len(images)))


def localizer_remark(count: int) -> str:
    """Return a report's remark on localizers that were left out of a series; empty for none."""
    if not count:
        return ""
    images = "1 localizer (scout) image was" if count == 1 else f"{count} localizer images were"
    return f"{images} left out"


def _first_reason(
    dataset: Dataset, checks: Iterable[Callable[[Dataset], str | None]]
) -> str | None:
    return next((reason for check in checks if (reason := check(dataset))), None)


def is_own_equipment(equipment: Dataset) -> bool:
    """Whether the equipment that made or changed an image is this product."""
    return (
        str(equipment.get("Manufacturer") or "").strip() == MANUFACTURER
        and str(equipment.get("ManufacturerModelName") or "").strip() == MODEL_NAME
    )


def _own_work(dataset: Dataset) -> str | None:
    return "already denoised by this product" if is_own_result(dataset) else None


def _multi_frame(dataset: Dataset) -> str | None:
    frames = str(dataset.get("NumberOfFrames") or "1").strip()
    if dataset.get("SOPClassUID") in MULTI_FRAME or frames not in ("0", "1"):
        return "multi-frame (enhanced) images, only single-frame CT images are processed"
    return None


def _other_modality(dataset: Dataset) -> str | None:
    modality = str(dataset.get("Modality") or "CT")
    return None if modality == "CT" else f"modality {quoted(modality)}, not CT"


def _other_class(dataset: Dataset) -> str | None:
    sop_class: Any = dataset.get("SOPClassUID")
    if not sop_class or sop_class in (CTImageStorage, *MULTI_FRAME):
        return None
    return f"{quoted(sop_class.name)}, not CT Image Storage"


def _colour(dataset: Dataset) -> str | None:
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    grey = photometric.startswith("MONOCHROME") and int(dataset.get("SamplesPerPixel") or 1) == 1
    return None if grey else f"colour images ({quoted(photometric)})"


def _localizer(dataset: Dataset) -> str | None:
    return "localizer (scout) images" if "LOCALIZER" in _image_type(dataset) else None


def _other_units(dataset: Dataset) -> str | None:
    unit = str(dataset.get("RescaleType") or "")
    # Where an original axial image leaves its unit open, its pixels decide (ct/units.py).
    if is_hounsfield(unit) or (is_unspecified(dataset) and not _not_axial(dataset)):
        return None
    return f"pixel values in {quoted(unit.strip())}, not in HU"


def _derived(dataset: Dataset) -> str | None:
    return "derived, not original images" if _image_type(dataset)[:1] == ("DERIVED",) else None


def _secondary(dataset: Dataset) -> str | None:
    return "secondary images" if _image_type(dataset)[1:2] == ("SECONDARY",) else None


def _not_axial(dataset: Dataset) -> str | None:
    image_type = _image_type(dataset)
    if image_type[:1] == ("ORIGINAL",) and image_type[2:3] == ("AXIAL",):
        return None
    return "Image Type does not say ORIGINAL and AXIAL"


def _image_type(dataset: Dataset) -> tuple[str, ...]:
    values = dataset.get("ImageType") or ()
    return (values,) if isinstance(values, str) else tuple(values)


_UNREADABLE: Final = (
    _other_modality,
    _other_class,
    _multi_frame,
    _colour,
    _localizer,
    _other_units,
)
_UNPROCESSABLE: Final = (_own_work, *_UNREADABLE)
_OUT_OF_SCOPE: Final = (_derived, _secondary, _not_axial)
