"""Identity and place of one image, by which denoised images are matched to their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.ct.attributes import number, numbers, texts
from dicom_node.ct.patient import identity_of

POSITION_TOLERANCE_MM = 0.1
"""Positions closer than this in every direction are the same: some programs write one decimal."""

DIRECTION_TOLERANCE = 1e-3
"""Direction cosines and pixel spacings closer than this are the same."""

BINDING = ("PatientID", "PatientName")
"""Parts of the identity that show by themselves whose image it is."""


@dataclass(frozen=True)
class ImageFacts:
    """Identity and place of an image, as its header states them.

    Attributes:
        sop_uid: SOP Instance UID.
        study_uid: Study Instance UID.
        frame_uid: Frame of Reference UID; empty if not stated.
        patient: Identity of the patient in canonical form (``ct.patient.identity_of``).
        number: Instance Number, if stated.
        shape: Number of (rows, columns).
        spacing_mm: Pixel Spacing of (rows, columns); empty if not stated.
        position_mm: Image Position (Patient); empty if not stated.
        orientation: Image Orientation (Patient); empty if not stated.
        sources: SOP Instance UIDs of the images that it was made from, if stated. Of several, only
            those whose spatial locations are preserved, if any is so marked: the others were only
            looked at.
    """

    sop_uid: str
    study_uid: str
    frame_uid: str
    patient: Mapping[str, str]
    number: int | None
    shape: tuple[int, int]
    spacing_mm: tuple[float, ...]
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: Dataset) -> ImageFacts:
        """Read them from a header, which has been checked (``headers.check_pixels``)."""
        instance = number(header, "InstanceNumber")
        return cls(
            sop_uid=str(header.SOPInstanceUID),
            study_uid=_text(header, "StudyInstanceUID"),
            frame_uid=_text(header, "FrameOfReferenceUID"),
            patient=identity_of(header),
            number=None if instance is None else int(instance),
            shape=(int(header.Rows), int(header.Columns)),
            spacing_mm=_exactly(2, numbers(header, "PixelSpacing")),
            position_mm=_exactly(3, numbers(header, "ImagePositionPatient")),
            orientation=_exactly(6, numbers(header, "ImageOrientationPatient")),
            sources=_sources(header),
        )

    def is_of_other_patient(self, other: ImageFacts) -> bool:
        """Whether anything that both say of the patient differs."""
        return any(other.patient.get(key, value) != value for key, value in self.patient.items())

    def is_bound_to(self, other: ImageFacts) -> bool:
        """Whether both are certainly of one patient: by identity, study or frame of reference."""
        if self.is_of_other_patient(other):
            return False
        shared = any(key in self.patient and key in other.patient for key in BINDING)
        same_study = bool(self.study_uid) and self.study_uid == other.study_uid
        same_frame = bool(self.frame_uid) and self.frame_uid == other.frame_uid
        return shared or same_study or same_frame

    def lies_with(self, other: ImageFacts) -> bool:
        """Whether both lie at the same place in the same orientation; both must state them."""
        return _near(self.position_mm, other.position_mm, POSITION_TOLERANCE_MM) and _near(
            self.orientation, other.orientation, DIRECTION_TOLERANCE
        )

    def contradiction(self, other: ImageFacts) -> str | None:
        """Return a phrase on how this image cannot be a result of another one; None if it can."""
        if self.is_of_other_patient(other):
            return "is of another patient"
        if self.shape != other.shape:
            return f"has {_size(self.shape)} pixels, not {_size(other.shape)}"
        if self.spacing_mm and not _near(self.spacing_mm, other.spacing_mm, DIRECTION_TOLERANCE):
            ours, theirs = (" x ".join(f"{mm:g}" for mm in f.spacing_mm) for f in (self, other))
            return f"has a pixel spacing of {ours} mm, not {theirs} mm"
        if self.position_mm and not _near(
            self.position_mm, other.position_mm, POSITION_TOLERANCE_MM
        ):
            return "lies at another position"
        if self.orientation and not _near(self.orientation, other.orientation, DIRECTION_TOLERANCE):
            return "has another orientation"
        return None


def _near(one: tuple[float, ...], other: tuple[float, ...], tolerance: float) -> bool:
    if not one or len(one) != len(other):
        return False
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _exactly(count: int, values: tuple[float, ...]) -> tuple[float, ...]:
    return values if len(values) == count else ()


def _size(shape: tuple[int, int]) -> str:
    return " x ".join(map(str, shape))


def _text(header: Dataset, keyword: str) -> str:
    return next(iter(texts(header, keyword)), "")


def _sources(header: Dataset) -> tuple[str, ...]:
    items = list(header.get("SourceImageSequence") or ())
    kept = [item for item in items if texts(item, "SpatialLocationsPreserved") == ["YES"]]
    uids = (_text(item, "ReferencedSOPInstanceUID") for item in kept or items)
    return tuple(uid for uid in uids if uid)
