"""A STOW-RS request body: DICOM files as a multipart/related stream (PS3.18, section 8.6.1.2)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_node.errors import UnreadableFile

MEDIA_TYPE = "application/dicom"
PIECE_BYTES = 1 << 16


class MultipartFiles:
    """Files as one body, read while it is sent; its length is known beforehand.

    Args:
        paths: The files, sent as they lie on disk.

    Raises:
        UnreadableFile: A file has gone.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        boundary = secrets.token_hex(16)
        head = f"\r\n--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\n\r\n".encode()
        self._head, self._tail = head, f"\r\n--{boundary}--\r\n".encode()
        self._paths = tuple(paths)
        self.content_type = f'multipart/related; type="{MEDIA_TYPE}"; boundary={boundary}'
        try:
            sizes = [path.stat().st_size for path in self._paths]
        except OSError as error:
            raise UnreadableFile(f"{error.filename} cannot be read: it has gone.") from error
        self._length = sum(sizes) + len(sizes) * len(head) + len(self._tail)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            yield self._head
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        yield self._tail
