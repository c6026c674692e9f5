"""Selection of the elements of a data set that are read; the others never enter memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dicom_node.encoding.elements import PIXEL_DATA, Bounds, ElementWalk, is_sequence
from dicom_node.errors import UnreadableFile

MAX_HEADER_BYTES: Final = 16 << 20
"""Bytes of the public elements that a derived image is made from."""

MAX_PIXEL_BYTES: Final = 80 << 20
"""Bytes of the encoded pixels of one image: twice those of 4096 x 4096, and a margin."""

MAX_LEAN_ELEMENTS: Final = 1000
MAX_LEAN_BYTES: Final = 1 << 18
MAX_LEAN_VALUE_BYTES: Final = 1 << 14
"""Limits of a lean header, which is enough to decide on a series: more than any scanner writes."""

LEAN_SEQUENCES: Final = frozenset((0x0018_A001,))
"""Sequences of a lean header: Contributing Equipment."""

GROUP_AFTER_HEADER: Final = 0x7FE0


@dataclass(frozen=True)
class ElementScope:
    """Selection of the elements to read.

    Attributes:
        lean: Small values only, and of sequences only `LEAN_SEQUENCES`.
        pixels: The pixel data too.
    """

    lean: bool
    pixels: bool


class ElementSelection(ElementWalk):
    """A walk that selects elements of the top level, each a span of the data set.

    Attributes:
        spans: Begin and end of each selected element, and whether its content is irregular.
        to_end: Whether to go on after the pixel data.
        has_pixels: Whether the pixel data has begun.
    """

    to_end = has_pixels = False

    def __init__(self, transfer_syntax: str, wanted: ElementScope, bounds: Bounds) -> None:
        super().__init__(transfer_syntax, bounds)
        self._wanted = wanted
        self.spans: list[tuple[int, int, bool]] = []
        self._bytes, self._begun, self._is_irregular = 0, -1, False

    def _on_element(
        self, data: bytes | memoryview, base: int, tag: int, vr: bytes, value: int, length: int
    ) -> bool:
        self.close()
        if tag >> 16 >= GROUP_AFTER_HEADER:
            if not self._wanted.pixels or (tag > PIXEL_DATA and not self.to_end):
                return False
            if tag == PIXEL_DATA:
                self.has_pixels = True
                self._begin()
        elif self._keeps(tag, vr, length):
            self._begin()
        return True

    def _begin(self) -> None:
        self._begun, self._is_irregular = self.offset, False

    def close(self) -> None:
        """End the span of the element selected last."""
        if self._begun < 0:
            return
        self.spans.append((self._begun, self.offset, self._is_irregular))
        self._bytes += self.offset - self._begun
        self._begun = -1
        lean = self._wanted.lean
        limit = MAX_LEAN_BYTES if lean else MAX_HEADER_BYTES
        if self._bytes - self.pixel_bytes > limit or (lean and len(self.spans) > MAX_LEAN_ELEMENTS):
            raise UnreadableFile("Its header is larger than that of any image.")
        if self.pixel_bytes > MAX_PIXEL_BYTES:
            raise UnreadableFile(
                f"It holds more than {MAX_PIXEL_BYTES >> 20} MiB of pixels, which no CT image has."
            )

    def _keeps(self, tag: int, vr: bytes, length: int) -> bool:
        if tag >> 16 & 1:  # private elements go into no derived image
            return False
        if not self._wanted.lean or tag in LEAN_SEQUENCES:
            return True
        return length <= MAX_LEAN_VALUE_BYTES and not is_sequence(tag, vr)

    def _skip_value(self) -> bool:
        self._is_irregular = True
        return super()._skip_value()
