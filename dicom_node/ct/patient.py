"""Check that the images of one series belong to one patient, without revealing who it is.

Values are compared by meaning: text in its declared character set, without the padding and the
empty components that PS3.5 6.2 allows, names without regard to case. An absent or empty value
contradicts nothing, since modalities omit issuer and birth date at will. Yet an image that names no
patient at all does not belong with images that do. Decision 0015 gives the reasons.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from dicom_node.ct.attributes import number, texts
from dicom_node.errors import InputError

Identity = Mapping[str, str]
"""Canonical values by attribute; absent and empty ones are left out."""

PATIENT_GROUP: Final = 0x0010

NAME_GROUPS: Final = ("PatientName", "ideographic PatientName", "phonetic PatientName")
"""Component groups of a name (PS3.5 6.2.1.1); each may be absent."""

_NAMING: Final = frozenset(("PatientID", *NAME_GROUPS))
"""Attributes that identify a patient by themselves; issuer and birth date only support them."""

MARK_DIGITS: Final = 4
"""Hexadecimal digits of a mark: enough to distinguish two patients, too few to identify one."""

MAX_NAMED_IMAGES: Final = 5

_REPLACED: Final = "\N{REPLACEMENT CHARACTER}"


def check_one_patient(headers: Sequence[Dataset]) -> None:
    """Check that no two images of a series name different patients.

    Raises:
        InputError: They do; the message names the attributes and images, never a value.
    """
    identities = [identity_of(header) for header in headers]
    differing = [key for key in _keys(identities) if len(_values(identities, key)) > 1]
    if differing:
        odd = {place for key in differing for place in _unlike_most(identities, key)}
        where = _images([headers[place] for place in sorted(odd)], len(headers))
        verb = "differ" if len(differing) > 1 else "differs"
        raise _several(f"{_listed(differing)} {verb} in {where}")
    apart = _apart(identities)
    if apart:
        where = _images([headers[place] for place in apart], len(headers))
        raise _several(f"neither identifier nor name binds {where} to the others")


def identity_of(header: Dataset) -> dict[str, str]:
    """Return the patient identity of a header in canonical form, fit for comparison.

    The header itself stays unchanged: its bytes go into derived images.
    """
    group = header.group_dataset(PATIENT_GROUP)
    found = {key: _text(group, key) for key in ("PatientID", "IssuerOfPatientID")}
    names = _text(group, "PatientName").split("=")
    found |= {key: _name(part) for key, part in zip(NAME_GROUPS, names, strict=False)}
    found["PatientBirthDate"] = re.sub(r"[.\-/ ]", "", _text(group, "PatientBirthDate"))
    return {key: value for key, value in found.items() if value}


def marks_of(headers: Sequence[Dataset], salt: str) -> dict[str, str]:
    """Return short salted hashes of the identity on which the images of one series agree.

    They show that later images are of another patient, long after the images themselves have left
    the disk. Each matches one in 65,536 values, so that no patient can be identified by them.

    Args:
        headers: Headers of one patient's images.
        salt: Of the series, so that marks of two series cannot be compared.
    """
    whole: dict[str, str] = {}
    for header in headers:
        whole |= identity_of(header)
    return {key: _mark(salt, key, value) for key, value in whole.items()}


def check_marks(earlier: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Check that late images are of the same patient as the earlier ones.

    Raises:
        InputError: They are not.
    """
    differing = [key for key in earlier if present.get(key, earlier[key]) != earlier[key]]
    if differing:
        verb = "differ" if len(differing) > 1 else "differs"
        raise _several(f"{_listed(differing)} {verb} between these images and earlier ones")
    if _apart([earlier, present]):
        raise _several("neither identifier nor name binds these images to earlier ones")


def _several(what: str) -> InputError:
    return InputError(
        f"The series holds images of several patients, as {what}: correct them at their source and"
        " send each patient's images in a series of their own."
    )


def _apart(identities: Sequence[Identity]) -> list[int]:
    """Indices of the images that share neither identifier nor name with the first that has one.

    Sharing is transitive; where no image has either, as after anonymisation, none is apart.
    """
    named = [_NAMING.intersection(one) for one in identities]
    bound = set(next(filter(None, named), ()))
    for _ in _NAMING:
        bound.update(*(one for one in named if one & bound))
    return [place for place, one in enumerate(named) if bound and not one & bound]


def _keys(identities: Sequence[Identity]) -> list[str]:
    return list(dict.fromkeys(key for one in identities for key in one))


def _values(identities: Sequence[Identity], key: str) -> set[str]:
    return {one[key] for one in identities if key in one}


def _unlike_most(identities: Sequence[Identity], key: str) -> list[int]:
    counts = Counter(one[key] for one in identities if key in one)
    usual = counts.most_common(1)[0][0]
    return [place for place, one in enumerate(identities) if one.get(key, usual) != usual]


def _images(headers: Sequence[Dataset], total: int) -> str:
    """Count of the images, with the first few instance numbers."""
    numbers = sorted(found for one in headers if (found := number(one, "InstanceNumber")))
    shown = ", ".join(f"{one:.0f}" for one in numbers[:MAX_NAMED_IMAGES])
    more = " ..." if len(numbers) > MAX_NAMED_IMAGES else ""
    named = f" (image {shown}{more})" if numbers else ""
    return f"{len(headers)} of {total} images{named}"


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(keys[:-1]), keys[-1])))


def _text(group: Dataset, keyword: str) -> str:
    """A value as text without padding; byte by byte where it is invalid in its character set."""
    raw: Any = group.get_item(keyword)
    text = "\\".join(texts(group, keyword))
    if isinstance(raw, RawDataElement) and raw.value and (_REPLACED in text or not text):
        text = raw.value.decode("latin-1")
    return unicodedata.normalize("NFC", text.strip(" \0"))


def _name(part: str) -> str:
    """One component group, without regard to case and separators."""
    words = re.split(r"[\s^,]+", unicodedata.normalize("NFKC", part).casefold())
    return " ".join(filter(None, words))


def _mark(salt: str, key: str, value: str) -> str:
    return hashlib.sha256(f"{salt}\n{key}\n{value}".encode()).hexdigest()[:MARK_DIGITS]
