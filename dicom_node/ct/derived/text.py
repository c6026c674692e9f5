"""Text of a source header with a suffix, within the length of its VR (PS3.5 6.2)."""

from __future__ import annotations

from typing import Any, Final

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement

from dicom_node.ct.attributes import texts

_REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
"""The decoder's mark for bytes that are invalid in the declared character set."""


def append_text(dataset: Dataset, keyword: str, suffix: str, max_characters: int) -> None:
    """Append a suffix to a single-valued text, which is cut where both do not fit.

    A backslash, which would split the text into two values, becomes a slash. Text that is invalid
    in its character set remains the bytes that the source wrote.

    Args:
        dataset: A derived header that still holds the source's text.
        keyword: An attribute with the VR LO.
        suffix: ASCII text.
        max_characters: Limit of the VR.
    """
    room = max_characters - len(suffix)
    element: Any = dataset.get_item(keyword)
    text = "/".join(texts(dataset, keyword))
    if isinstance(element, RawDataElement) and _REPLACED in text:
        kept = (element.value or b"").rstrip(b" \0")[:room].replace(b"\\", b"/")
        _put_bytes(dataset, keyword, kept + suffix.encode("ascii", "replace"))
    else:
        setattr(dataset, keyword, (text[:room] + suffix).strip())


def _put_bytes(dataset: Dataset, keyword: str, value: bytes) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    padded = value + b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(
        tag=tag,  # type: ignore[arg-type]
        VR=dictionary_VR(tag),
        length=len(padded),
        value=padded,
        value_tell=0,
        is_implicit_VR=False,
        is_little_endian=True,
    )
