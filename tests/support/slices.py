"""The slices of a series as a converter process reads them, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.image_file import CtSlice, read_slice
from dicom_node.ct.read import open_series
from dicom_node.ct.stack import CtStack


def read_slices(stack: CtStack) -> list[tuple[CtSlice, NDArray[np.float32]]]:
    """Read all slices, each with its HU."""
    return [read_slice(stack.file(index)) for index in range(len(stack.files))]


def stored_words(paths: Sequence[Path]) -> NDArray[Any]:
    """Read the stored words [slice, row, column] of a series."""
    return np.stack([one.stored for one, _ in read_slices(open_series(paths))])
