"""Folders of denoised DICOM images, made by any program, as a method of an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.folder import holds_dicom, scan_folder
from dicom_node.ct.headers import check_pixels, damage_named, image_name, load_whole
from dicom_node.ct.image_file import ImageFile
from dicom_node.errors import NodeError
from man_core import ModelCard, list_models
from man_core.weights import file_sha256
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.image_facts import ImageFacts
from training.evaluate.matching import DenoisedImage, Matching, slice_names
from training.fit.state import RECIPE_FILE

Hu = NDArray[np.float32]

BODY_ABOVE_HU = -500.0
"""Pixels above it show whether two images are on the same scale."""

MAX_SCALE_DIFFERENCE_HU = 50.0
"""Median difference of a result from its source in the body; no noise reduction comes near it."""


def is_denoised_folder(name: str) -> bool:
    """Whether a name is that of a folder of images: no model's, no run's and no exported model's.

    A registry name is never a folder; ``./man`` is.
    """
    path = Path(name)
    if name in {card.name for card in list_models()} or not path.is_dir():
        return False
    return not (path / RECIPE_FILE).is_file() and not _has_card(path) and holds_dicom(path)


def _has_card(folder: Path) -> bool:
    for path in folder.glob("*.json"):
        with suppress(ValueError, OSError):
            ModelCard.load(path)
            return True
    return False


class DenoisedFolder:
    """Denoised images made by any program, as results for the cases that they belong to.

    Args:
        folder: Folder of the images, and of folders of them.

    Raises:
        TrainingError: It holds no CT image, or one that cannot be read in HU.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            images = [_image(path) for path in _files(folder)]
        except NodeError as error:
            raise TrainingError(f"The results in {folder} cannot be used: {error}") from error
        hashes = sorted(image.sha256 for image in images)
        self.files_sha256 = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        self._matching = Matching(folder, images)

    def __call__(self, case: Case) -> Hu:
        """Return the results for a case [slice, row, column], HU.

        Raises:
            TrainingError: A slice has no image, several, or one that cannot be its result.
        """
        images = [image for image in self._matched(case) if image is not None]
        if len(images) < len(case.full):
            raise self.missing(case, self.lacking(case))
        pairs = zip(images, case.low.hu, strict=True)
        return np.stack([self._read(image, low) for image, low in pairs])

    def lacking(self, case: Case) -> list[int]:
        """Return the indices of the slices of a case that have no image in the folder.

        Raises:
            TrainingError: See ``Matching.of``.
        """
        return [index for index, image in enumerate(self._matched(case)) if image is None]

    def missing(self, case: Case, lacking: Sequence[int]) -> TrainingError:
        """Return the error for slices that have no image; it names them, and why if all lack."""
        if len(lacking) == len(case.origins):
            reason = self._matching.reason_for_none(case.origins)
            return TrainingError(
                f"{self.folder} has no result for any of the {len(lacking)} slices of {case.name}:"
                f" {reason}. --partial leaves a series without results out of all rows."
            )
        names = slice_names([case.origins[index].low for index in lacking])
        return TrainingError(
            f"{self.folder} has no result for {len(lacking)} of the {len(case.origins)} slices of"
            f" {case.name}: {names}. Add them, or leave them out of all rows with --partial."
        )

    def _matched(self, case: Case) -> list[DenoisedImage | None]:
        if not case.origins:
            raise TrainingError(
                f"The results in {self.folder} cannot be matched to {case.name}, which does not say"
                " what DICOM images it has: measure them on the folders of a real pair, --data LOW"
                " --full FULL."
            )
        return self._matching.of(case.origins)

    def _read(self, image: DenoisedImage, low: Hu) -> Hu:
        try:
            if file_sha256(image.path) != image.sha256:
                raise TrainingError(f"{image.path} has changed since it was hashed: try again.")
            header = load_whole(image.path)
            hu = CONVERTERS.read(ImageFile.of(header, image.path)).hu
        except NodeError as error:
            raise TrainingError(f"The results in {self.folder} cannot be used: {error}") from error
        self._check_scale(image, hu, low)
        return hu

    def _check_scale(self, image: DenoisedImage, hu: Hu, low: Hu) -> None:
        body = low > BODY_ABOVE_HU
        off = float(np.median((hu - low)[body])) if body.any() else 0.0
        if abs(off) > MAX_SCALE_DIFFERENCE_HU:
            raise TrainingError(
                f"{image.name} of {self.folder} differs from its source by {off:.0f} HU in the"
                " median of the body: correct its RescaleSlope and RescaleIntercept."
            )


def _files(folder: Path) -> list[Path]:
    found = scan_folder(folder)
    if found.unread:
        raise TrainingError(
            f"{folder} holds a DICOM file that cannot be read. {found.unread[0].reason}"
        )
    return [path for paths in found.series for path in paths]


def _image(path: Path) -> DenoisedImage:
    header = load_whole(path)
    name = image_name(header, path)
    check_pixels(header, name)
    with damage_named(name):
        facts = ImageFacts.of(header)
    return DenoisedImage(path, name, facts, file_sha256(path))
