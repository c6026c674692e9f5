"""A compressed image on its way to a decoder process, and the words that come back.

Nothing that is sent can run as code: a request is two lengths, the pixel options as JSON, and the
encoded pixel data; an answer is a fixed header and the words.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options

_REQUEST: Final = struct.Struct("<QQ")
_ANSWER: Final = struct.Struct("<B3sII")
_DTYPES: Final = frozenset((b"<u2", b"<i2", b"|u1", b"|i1"))

EXTENDED_OFFSETS: Final = "extended_offsets"
"""Table of several frames; a single frame is all of the fragments."""


class Pipe(Protocol):
    """End of a pipe without a buffer; each call may transfer a part only."""

    def write(self, data: memoryview, /) -> int | None:
        """Write the beginning of the data; return the number of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the beginning of the buffer; return the number of bytes, 0 at the end."""


class Outcome(IntEnum):
    """Outcome of decoding in the other process."""

    WORDS = 0
    DAMAGED = 1
    NO_MEMORY = 2


@dataclass(frozen=True)
class Frame:
    """A compressed image of one frame.

    Attributes:
        syntax: Transfer Syntax UID.
        options: Attributes of group 0028 under pydicom's names, such as ``rows``.
        pixel_data: Value of Pixel Data, encapsulated.
    """

    syntax: str
    options: dict[str, Any]
    pixel_data: bytes

    @classmethod
    def of(cls, dataset: Dataset) -> Frame:
        """Take the frame out of an image with file meta information."""
        options: dict[str, Any] = as_pixel_options(dataset)
        options.pop(EXTENDED_OFFSETS, None)
        return cls(str(dataset.file_meta.TransferSyntaxUID), options, dataset.PixelData)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of (rows, columns) in the header."""
        return int(self.options["rows"]), int(self.options["columns"])

    def decode(self) -> NDArray[Any]:
        """Decode the words [row, column] in this process, unused bits untouched.

        Raises:
            Exception: What the decoders of several libraries raise.
        """
        options: dict[str, Any] = {
            **self.options,
            "pixel_keyword": "PixelData",
            "correct_unused_bits": False,
        }
        words: NDArray[Any]
        words, _ = get_decoder(self.syntax).as_array(self.pixel_data, raw=True, **options)
        return words


def send_frame(pipe: Pipe, frame: Frame) -> None:
    """Send a request.

    Raises:
        BrokenPipeError: The other process has ended.
    """
    text = json.dumps([frame.syntax, frame.options], default=str).encode()
    _write(pipe, _REQUEST.pack(len(text), len(frame.pixel_data)) + text)
    _write(pipe, frame.pixel_data)


def receive_frame(pipe: Pipe) -> Frame:
    """Receive a request.

    Raises:
        EOFError: The other process needs no more.
    """
    sizes = _REQUEST.unpack(_read(pipe, _REQUEST.size))
    text, pixel_data = (_read(pipe, size) for size in sizes)
    syntax, options = json.loads(bytes(text))
    return Frame(syntax, options, bytes(pixel_data))


def send_answer(pipe: Pipe, outcome: Outcome, words: NDArray[Any] | None = None) -> None:
    """Send the outcome, with the words [row, column] if there are any.

    Raises:
        BrokenPipeError: The other process has ended.
    """
    if words is None:
        _write(pipe, _ANSWER.pack(outcome, b"", 0, 0))
        return
    _write(pipe, _ANSWER.pack(outcome, words.dtype.str.encode(), *words.shape))
    _write(pipe, np.ascontiguousarray(words).data.cast("B"))


def receive_answer(pipe: Pipe, shape: tuple[int, int]) -> tuple[Outcome, NDArray[Any] | None]:
    """Receive an outcome, with the words [row, column] if there are any.

    Args:
        pipe: End of the pipe.
        shape: Number of (rows, columns) that are expected.

    Raises:
        EOFError: The other process has ended.
        ValueError: This is no answer to the request.
    """
    code, dtype, rows, columns = _ANSWER.unpack(_read(pipe, _ANSWER.size))
    outcome = Outcome(code)
    if outcome is not Outcome.WORDS:
        return outcome, None
    if (rows, columns) != shape or dtype not in _DTYPES:
        raise ValueError("A decoder process sent words of another size or type.")
    words = np.empty(shape, np.dtype(dtype.decode()))
    _fill(pipe, words.data.cast("B"))
    return outcome, words


def _write(pipe: Pipe, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) or 0 :]


def _read(pipe: Pipe, size: int) -> bytearray:
    data = bytearray(size)
    _fill(pipe, memoryview(data))
    return data


def _fill(pipe: Pipe, rest: memoryview) -> None:
    while rest:
        count = pipe.readinto(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
