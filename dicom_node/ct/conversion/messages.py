"""Requests to a converter process, and its answers.

Nothing that is sent can run as code: a request is a header of fixed size, JSON and the bytes of an
image in HU; an answer is a header with what the request asked for, whose size both know, or with a
sentence. Both headers begin with the same random bytes, so that no answer is taken for another.
"""

from __future__ import annotations

import json
import struct
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.image_file import DIGEST_BYTES, ImageFile
from dicom_node.errors import InputError, NodeError, NotForUs, StorageError, UnreadableFile

MAX_SENTENCE_BYTES: Final = 1 << 14

NONCE_BYTES: Final = 8

_REQUEST: Final = struct.Struct(f"<{NONCE_BYTES}sII")
_ANSWER: Final = struct.Struct(f"<{NONCE_BYTES}sBI{DIGEST_BYTES}s")


class Pipe(Protocol):
    """End of a pipe without a buffer; each call may transfer a part only."""

    def write(self, data: memoryview, /) -> int | None:
        """Write the beginning of the data; return the number of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read into the beginning of the buffer; return the number of bytes, 0 at the end."""


class Outcome(IntEnum):
    """Outcome of a request in the other process."""

    DONE = 0
    INPUT_ERROR = 1
    UNREADABLE_FILE = 2
    NOT_FOR_US = 3
    STORAGE_ERROR = 4
    FAULT = 5


ERRORS: Final[Mapping[Outcome, type[NodeError]]] = MappingProxyType({
    Outcome.UNREADABLE_FILE: UnreadableFile,
    Outcome.NOT_FOR_US: NotForUs,
    Outcome.STORAGE_ERROR: StorageError,
    Outcome.INPUT_ERROR: InputError,
})  # fmt: skip
"""Errors that say what is wrong in one sentence, special ones first."""


@dataclass(frozen=True)
class SeriesLabels:
    """Everything that the derived images of one series have in common.

    Attributes:
        provenance: Model and settings.
        options: Labels of the derived series.
        missing: Slices that the source lacked, in words; empty if none.
        umask: Permissions that the files do not get.
    """

    provenance: Provenance
    options: DeriveOptions
    missing: str
    umask: int


@dataclass(frozen=True)
class Read:
    """Read a slice; the answer is its HU and its padding.

    Attributes:
        file: The file.
        ticket: Number under which the slice is kept until it is derived; 0: it is not kept.
    """

    file: ImageFile
    ticket: int = 0


@dataclass(frozen=True)
class Derive:
    """Write the derived image of a slice; HU follow.

    Attributes:
        file: The source.
        ticket: Number under which it may be kept.
        digest: ``CtSlice.digest`` of what was denoised, hexadecimal.
        target: The file to write.
        labels: Labels of the series.
        beside: SOP class and instance of the slices that the model saw beside it.
    """

    file: ImageFile
    ticket: int
    digest: str
    target: Path
    labels: SeriesLabels
    beside: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Object:
    """Add the guard's objections to a derived image that has been written.

    Attributes:
        file: The source.
        target: The derived image.
        labels: Labels of the series.
        flagged: The objections.
    """

    file: ImageFile
    target: Path
    labels: SeriesLabels
    flagged: str


@dataclass(frozen=True)
class Release:
    """Forget slices that are kept.

    Attributes:
        tickets: Their numbers.
    """

    tickets: Sequence[int] = field(default_factory=list)


Request = Read | Derive | Object | Release

_KINDS: Final[Mapping[str, type[Request]]] = MappingProxyType(
    {kind.__name__: kind for kind in (Read, Derive, Object, Release)}
)


def send_request(
    pipe: Pipe, nonce: bytes, request: Request, hu: NDArray[np.float32] | None = None
) -> None:
    """Send a request, with HU [row, column] where it is to derive an image.

    Raises:
        BrokenPipeError: The other process has ended.
    """
    text = json.dumps([type(request).__name__, asdict(request)], default=str).encode()
    data = b"" if hu is None else np.ascontiguousarray(hu, np.float32).data.cast("B")
    _write(pipe, _REQUEST.pack(nonce, len(text), len(data)) + text)
    _write(pipe, data)


def receive_request(pipe: Pipe) -> tuple[bytes, Request, NDArray[np.float32]]:
    """Receive nonce, request and its HU [row, column], which are empty where it has none.

    Raises:
        EOFError: The other process needs no more.
    """
    nonce, text_bytes, data_bytes = _REQUEST.unpack(_read(pipe, _REQUEST.size))
    kind, fields = json.loads(bytes(_read(pipe, text_bytes)))
    request = _KINDS[kind](**{name: _typed(name, value) for name, value in fields.items()})
    hu = np.empty(data_bytes // 4, np.float32)
    _fill(pipe, hu.data.cast("B"))
    if isinstance(request, Derive):
        hu = hu.reshape(request.file.shape)
    return nonce, request, hu


def _typed(name: str, value: Any) -> Any:
    """Return a field of a request as the type that it had before it was JSON."""
    if name == "file":
        return ImageFile(**{**value, "path": Path(value["path"])})
    if name == "target":
        return Path(value)
    if name == "labels":
        provenance, options = Provenance(**value["provenance"]), DeriveOptions(**value["options"])
        return SeriesLabels(provenance, options, value["missing"], value["umask"])
    return value


def send_done(
    pipe: Pipe, nonce: bytes, digest: bytes = b"", arrays: Sequence[NDArray[Any]] = ()
) -> None:
    """Answer a request that has been carried out.

    Args:
        pipe: End of the pipe.
        nonce: That of the request.
        digest: That of the slice, if one was to be read.
        arrays: Its HU and its padding.

    Raises:
        BrokenPipeError: The other process has ended.
    """
    _write(pipe, _ANSWER.pack(nonce, Outcome.DONE, 0, digest))
    for array in arrays:
        _write(pipe, np.ascontiguousarray(array).data.cast("B"))


def send_error(pipe: Pipe, nonce: bytes, error: Exception) -> None:
    """Answer a request that cannot be carried out.

    Of an unexpected error only type and place are told, since it may quote a patient's name.

    Raises:
        BrokenPipeError: The other process has ended.
    """
    known = (one for one, kind in ERRORS.items() if isinstance(error, kind))
    outcome = next(known, Outcome.FAULT)
    sentence = _place(error) if outcome is Outcome.FAULT else str(error)
    text = sentence.encode("utf-8", "surrogateescape")[:MAX_SENTENCE_BYTES]
    _write(pipe, _ANSWER.pack(nonce, outcome, len(text), b"") + text)


def _place(error: Exception) -> str:
    """Type of an error and the line of code that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


def receive_answer(pipe: Pipe, nonce: bytes, into: Sequence[NDArray[Any]] = ()) -> bytes:
    """Receive the answer to a request.

    Args:
        pipe: End of the pipe.
        nonce: That of the request.
        into: Arrays that are filled where the request has been carried out.

    Returns:
        The digest of the slice that has been read.

    Raises:
        NodeError: The request cannot be carried out; one sentence.
        RuntimeError: The same, for an unknown reason.
        EOFError: The other process has ended.
        ValueError: This is no answer.
    """
    echo, code, text_bytes, digest = _ANSWER.unpack(_read(pipe, _ANSWER.size))
    outcome = Outcome(code)
    if echo != nonce or text_bytes > MAX_SENTENCE_BYTES:
        raise ValueError("A converter process sent what is no answer.")
    if outcome is not Outcome.DONE:
        sentence = bytes(_read(pipe, text_bytes)).decode("utf-8", "replace")
        raise ERRORS.get(outcome, RuntimeError)(sentence)
    for array in into:
        _fill(pipe, array.data.cast("B"))
    return bytes(digest)


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
