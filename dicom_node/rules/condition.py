"""Condition of a rule on one attribute of the header.

Values are compared by their meaning in DICOM: numbers as numbers, ages in years, text without
regard to case and surrounding spaces. Of a multi-valued attribute, such as Image Type, one value
must match.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_dict

from dicom_node.ct.attributes import numbers, quoted, texts
from dicom_node.logs import IDENTITY_WORDS
from dicom_node.settings.sections import Section

NUMERIC: Final = frozenset(("DS", "IS", "FL", "FD", "SS", "US", "SL", "UL", "SV", "UV", "US or SS"))
"""Value representations that hold numbers (PS3.5 6.2)."""

WITHOUT_VALUES: Final = frozenset(("SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"))
"""Value representations that cannot be compared: sequences and bulk data."""

FIRST_TAG: Final = 0x00080000
"""Lower tags are command and file meta elements, which are not part of a data set."""

IDENTIFYING: Final = frozenset(("PN", "DA", "DT"))
"""Value representations that may identify a person: names and dates."""

AGE: Final = "AS"

YEARS: Final = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
"""Units of an age string (VR AS)."""

MAX_COMPARED_CHARACTERS: Final = 1024
"""Beginning of a value in which a pattern is searched."""

Value = str | float


def _keyword(name: str) -> str:
    tag = keyword_dict.get(name)
    if tag is None:
        raise ValueError(
            f"{name!r} is not a DICOM keyword{_meant(name)}, write it as in PS3.6; private"
            " attributes have no keyword"
        )
    kinds = dictionary_VR(tag).split(" or ")
    if tag < FIRST_TAG or WITHOUT_VALUES.intersection(kinds):
        raise ValueError(f"{name} cannot be compared, name an attribute with plain values")
    return name


def _meant(name: str) -> str:
    known = {keyword.lower(): keyword for keyword in keyword_dict if keyword}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""


def _plain(value: object) -> object:
    """Refuse values that YAML has made of an unquoted word: false of NO, a date of 2026-01-31."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError("put the value in quotes")
    return value


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"it is not a regular expression, {error}") from error
    return text


Keyword = Annotated[str, AfterValidator(_keyword)]
Comparable = Annotated[str | int | float, BeforeValidator(_plain)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Limit = Annotated[float, Field(allow_inf_nan=False)]


class Condition(Section):
    """Tests of one attribute; one of its values must pass all of them.

    Attributes:
        keyword: Keyword of the attribute (PS3.6).
        equals: Accepted values.
        matches: Regular expression that must be found in the value.
        at_least: Minimum of a number, or of an age in years.
        at_most: Maximum of a number, or of an age in years.
        present: Whether the attribute must have a value.
    """

    keyword: Keyword
    equals: Annotated[tuple[Comparable, ...] | None, BeforeValidator(_listed)] = None
    matches: Pattern | None = None
    at_least: Limit | None = None
    at_most: Limit | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        tests = self.model_fields_set - {"keyword"}
        if not tests:
            raise ValueError("give a test: equals, matches, at_least, at_most or present")
        if self.present is False and tests != {"present"}:
            raise ValueError("an absent attribute has no value to compare")
        self._check_limits()
        if self.matches is not None and self._is_number:
            raise ValueError(f"{self.keyword} is a number, use equals, at_least or at_most")
        for value in self.equals or ():
            self._check_comparable(value)
        return self

    def objection(self, header: Dataset) -> str | None:
        """Return why a header does not meet the condition; None when it does.

        The value of an attribute that may identify the patient is left out.
        """
        values = list(self._values(header))
        if self.present is False:
            return f"{self.keyword} is present" if values else None
        if not values:
            return f"{self.keyword} is absent"
        if any(all(test(value) for test in self._tests()) for value in values):
            return None
        seen = "" if self._is_private else f"{_shown(values)}, "
        return f"{self.keyword} is {seen}not {self.words()}"

    def words(self) -> str:
        """Describe the tests, as in ``at least 1 and at most 3``."""
        parts = []
        if self.present is not None:
            parts.append("present" if self.present else "absent")
        if self.equals is not None:
            parts.append(" or ".join(str(value) for value in self.equals))
        if self.matches is not None:
            parts.append(f"matching {self.matches!r}")
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        return " and ".join(parts)

    @property
    def _kind(self) -> str:
        return dictionary_VR(keyword_dict[self.keyword])

    @property
    def _is_number(self) -> bool:
        return self._kind in NUMERIC

    @property
    def _is_private(self) -> bool:
        """Whether the value may identify the patient."""
        words = any(word in self.keyword.lower() for word in IDENTITY_WORDS)
        return words or self._kind in IDENTIFYING or self.keyword.endswith("ID")

    def _check_limits(self) -> None:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            return
        if not self._is_number and self._kind != AGE:
            raise ValueError(f"{self.keyword} is text, use equals or matches")
        if low is not None and high is not None and low > high:
            raise ValueError("at_least is greater than at_most, so nothing matches")

    def _check_comparable(self, value: Value) -> None:
        if not self._is_number:
            if not isinstance(value, str):
                raise ValueError(f"{self.keyword} is text, put the value in quotes")
            return
        try:
            float(value)
        except ValueError:
            raise ValueError(f"{self.keyword} is a number, and {value!r} is not") from None

    def _tests(self) -> Iterator[Callable[[Value], bool]]:
        if self.equals is not None:
            wanted = {float(one) if self._is_number else _folded(one) for one in self.equals}
            yield lambda value: _folded(value) in wanted
        if self.matches is not None:
            pattern = re.compile(self.matches, re.IGNORECASE)
            yield lambda value: pattern.search(str(value)[:MAX_COMPARED_CHARACTERS]) is not None
        low, high = self.at_least, self.at_most
        if low is not None:
            yield lambda value: _amount(value) >= low
        if high is not None:
            yield lambda value: _amount(value) <= high

    def _values(self, header: Dataset) -> Sequence[Value]:
        return (numbers if self._is_number else texts)(header, self.keyword)


def _shown(values: Sequence[Value]) -> str:
    return "\\".join(f"{one:g}" if isinstance(one, float) else quoted(one) for one in values)


def _folded(value: Value) -> Value:
    return value.strip().casefold() if isinstance(value, str) else value


def _amount(value: Value) -> float:
    """Return a number, or an age in years; NaN, which compares with nothing, for other text."""
    if not isinstance(value, str):
        return value
    digits, unit = value[:-1], value[-1:].upper()
    return int(digits) * YEARS[unit] if digits.isdigit() and unit in YEARS else float("nan")
