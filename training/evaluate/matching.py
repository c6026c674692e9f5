"""Matching of denoised images to the slices that they were made from.

An image belongs to the slice that it names as its source (Source Image Sequence), or whose SOP
Instance UID it kept. An image that names no source belongs to the slice of the same patient at its
place, and one without a place to the slice of the same patient with its instance number. Nothing is
guessed: two images for a slice, or two slices for an image, are an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.errors import TrainingError
from training.evaluate.image_facts import ImageFacts

MAX_NAMED = 5
"""Images and slices that a message names one by one."""


@dataclass(frozen=True)
class Origin:
    """One slice of a case: images whose values it has.

    Attributes:
        low: Image of low dose.
        full_uid: SOP Instance UID of the image of full dose.
    """

    low: ImageFacts
    full_uid: str


@dataclass(frozen=True)
class DenoisedImage:
    """One image of a folder of results.

    Attributes:
        path: File.
        name: Name in messages: instance number and file name.
        facts: Identity and place.
        sha256: Hash of the file.
    """

    path: Path
    name: str
    facts: ImageFacts
    sha256: str

    @property
    def claims(self) -> tuple[str, ...]:
        """SOP Instance UIDs of the slices that it may be a result of, by its own account."""
        return self.facts.sources or (self.facts.sop_uid,)


class Matching:
    """Images of a folder of results by the slices that they belong to.

    Args:
        folder: Folder, for messages.
        images: Its images.
    """

    def __init__(self, folder: Path, images: Sequence[DenoisedImage]) -> None:
        self._folder = folder
        self._images = images
        self._claiming: dict[str, list[DenoisedImage]] = defaultdict(list)
        for image in images:
            for uid in image.claims:
                self._claiming[uid].append(image)
        self._taken: dict[Path, str] = {}
        self._full_uids: set[str] = set()

    def of(self, origins: Sequence[Origin]) -> list[DenoisedImage | None]:
        """Return the image of each slice; None where the folder has none.

        Raises:
            TrainingError: A slice has several images or one that contradicts it, an image belongs
                to several slices, or the images are results of the full dose.
        """
        self._refuse_full_dose(origins)
        found = [self._image_of(origin.low) for origin in origins]
        for origin, image in zip(origins, found, strict=True):
            if image is not None:
                self._take(image, origin.low)
        return found

    def reason_for_none(self, origins: Sequence[Origin]) -> str:
        """Return a phrase on why no image of the folder belongs to any of some slices."""
        low = origins[0].low
        of_patient = [i for i in self._images if not i.facts.is_of_other_patient(low)]
        if not of_patient:
            return "its images are of other patients"
        unnamed = [image for image in of_patient if not image.facts.sources]
        if not unnamed:
            return "its images name other images as their sources"
        if not any(image.facts.is_bound_to(low) for image in unnamed):
            return (
                "nothing in its images tells whose they are: they share neither patient nor study"
                " nor frame of reference with the slices"
            )
        if any(image.facts.position_mm for image in unnamed):
            return "none of its images lies at their positions in their orientation"
        return "none of its images has their instance numbers"

    def _refuse_full_dose(self, origins: Sequence[Origin]) -> None:
        """Raise if the images are of full dose; leave them aside if others are of low dose."""
        low = {origin.low.sop_uid for origin in origins}
        self._full_uids = {origin.full_uid for origin in origins} - low
        of_full = [uid for uid in self._full_uids if uid in self._claiming]
        if of_full and not any(uid in self._claiming for uid in low):
            raise self._error(
                self._claiming[of_full[0]],
                "was made from the full dose, or is the full dose itself: give results of the low"
                " dose",
            )

    def _image_of(self, low: ImageFacts) -> DenoisedImage | None:
        claiming = self._claiming.get(low.sop_uid, [])
        one_source = [image for image in claiming if len(image.claims) == 1]
        # Of an image made from several slices, the place decides which of them it shows.
        several = [i for i in claiming if len(i.claims) > 1 and i.facts.lies_with(low)]
        found = one_source + several or self._at_place(low) or self._of_number(low)
        if not found:
            return None
        if len(found) > 1:
            raise self._error(found, f"all belong to {_slice_name(low)}: leave one of them there")
        if reason := found[0].facts.contradiction(low):
            raise self._error(found, f"{reason}: it cannot be a result of {_slice_name(low)}")
        return found[0]

    def _at_place(self, low: ImageFacts) -> list[DenoisedImage]:
        there = [image for image in self._images if image.facts.lies_with(low)]
        return [image for image in there if self._may_be_of(image, low)]

    def _of_number(self, low: ImageFacts) -> list[DenoisedImage]:
        if low.number is None:
            return []
        placeless = [image for image in self._images if not image.facts.position_mm]
        numbered = [image for image in placeless if image.facts.number == low.number]
        return [image for image in numbered if self._may_be_of(image, low)]

    def _may_be_of(self, image: DenoisedImage, low: ImageFacts) -> bool:
        """Whether an image names no source and is of the patient of a slice."""
        silent = not image.facts.sources and image.facts.sop_uid not in self._full_uids
        return silent and image.facts.is_bound_to(low)

    def _take(self, image: DenoisedImage, low: ImageFacts) -> None:
        earlier = self._taken.setdefault(image.path, low.sop_uid)
        if earlier != low.sop_uid:
            raise self._error(
                [image],
                f"could be a result of {_slice_name(low)} and of a slice of another series: give"
                " one low-dose series at a time",
            )

    def _error(self, images: Sequence[DenoisedImage], what: str) -> TrainingError:
        return TrainingError(f"{listed([i.name for i in images])} of {self._folder} {what}.")


def _slice_name(low: ImageFacts) -> str:
    number = "the slice" if low.number is None else f"slice {low.number}"
    return f"{number} at z {low.position_mm[2]:g} mm" if low.position_mm else number


def slice_names(slices: Sequence[ImageFacts]) -> str:
    """Name slices by instance number and position, the first few of many."""
    return listed([_slice_name(low) for low in slices])


def listed(names: Sequence[str]) -> str:
    """Join names in words, the first few of many."""
    if len(names) > MAX_NAMED:
        names = [*names[:MAX_NAMED], f"{len(names) - MAX_NAMED} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
