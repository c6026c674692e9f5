"""Mistakes in the configuration as sentences; no sentence repeats a value, which may be a secret.

A password may stand where nobody expects it: as a number, as a list, at the wrong key, or glued to
its key by a forgotten space. What was found is therefore never written, only where and why it is
wrong. Exceptions are the names of peers and of the guard's checks, which are names and no secrets.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from dicom_node.settings.models import ENV_DELIMITER, ENV_PREFIX, Settings
from dicom_node.settings.sections import PeerSettings, WebPeerSettings

PEER_KINDS: Mapping[str, type[BaseModel]] = {"dicom": PeerSettings, "web": WebPeerSettings}
PEER_DEPTH = 2
"""An error in a peer stands at ("peers", its place, its kind, key)."""

MAX_KEY_LENGTH = 40
"""Characters; what is longer is no key of a configuration."""

_KEY = re.compile(r"[A-Za-z][\w-]*")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")

Place = tuple[int | str, ...]


def sentence(detail: ErrorDetails, source: str) -> str:
    """One validation error as a sentence for the person who edits the file."""
    place, kind = _place(detail["loc"])
    key = key_path(place)
    where = _variable_of(place) or source
    if detail["type"] == "extra_forbidden":
        return f"{where}: '{key}' is not a known key{_remedy(place, kind)}; correct or remove it."
    if detail["type"] == "missing":
        return f"{where}: '{key}' is missing; add it."
    if place[-1] in secret_names():
        return f"{where}: '{key}' must be a text: put it in quotes."
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":  # our own checks say themselves what to do
        return f"{where}: '{key}' is wrong: {message}."
    return f"{where}: '{key}' is wrong: {message[:1].lower()}{message[1:]}; correct it."


def yaml_sentence(error: Exception, name: str) -> str:
    """Why a file is no YAML, and where; without the words that the parser quotes from it."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "a value in it cannot be read"
    problem = _QUOTED.sub("a text", str(problem).splitlines()[0])
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{name}: is not valid YAML; {where}{problem}; put texts with special signs in quotes."


def unknown_variables() -> Iterator[str]:
    """Misspelt ``DICOM_NODE_…`` variables, which would otherwise be ignored in silence."""
    for name in sorted(os.environ):
        key = name.upper().removeprefix(ENV_PREFIX)
        if key == name.upper():
            continue
        first = key.split(ENV_DELIMITER)[0].lower()
        if first not in Settings.model_fields:
            known = _suggestion(first, Settings)
            yield f"environment: {name} is no setting{known}; correct or unset it."


def key_path(place: Place) -> str:
    """Where a value stands, such as ``peers.0.port``; what looks like no key is cut off."""
    return ".".join(str(part) if isinstance(part, int) else _shown(part) for part in place)


@cache
def secret_names() -> frozenset[str]:
    """Keys whose values are secret, such as ``password``."""
    return frozenset(_secrets_below(Settings))


def _secrets_below(annotation: Any) -> Iterator[str]:
    """Names of the fields of type SecretStr in a model, and in the models that it holds."""
    for kind in get_args(annotation):
        yield from _secrets_below(kind)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if SecretStr in (field.annotation, *get_args(field.annotation)):
                yield name
            else:
                yield from _secrets_below(field.annotation)


def _shown(key: str) -> str:
    """A key, or its beginning when more than a key stands there (``password:glued-to-it``)."""
    match = _KEY.match(key[:MAX_KEY_LENGTH])
    beginning = match.group() if match else ""
    return key if beginning == key else f"{beginning}…"


def _remedy(place: Place, kind: type[BaseModel] | None) -> str:
    name = str(place[-1])
    if _shown(name) != name:
        return " (a space stands after the colon of a key)"
    return _suggestion(name, kind or _model_at(place[:-1]))


def _variable_of(place: Place) -> str | None:
    """The environment variable that this value came from, if one did."""
    present = {name.upper() for name in os.environ}
    for length in range(len(place), 0, -1):
        name = ENV_PREFIX + ENV_DELIMITER.join(str(part) for part in place[:length]).upper()
        if name in present:
            return name
    return None


def _place(loc: Place) -> tuple[Place, type[BaseModel] | None]:
    """Where a value stands in the file, and for a peer which kind pydantic took it for."""
    if len(loc) > PEER_DEPTH and loc[0] == "peers" and loc[2] in PEER_KINDS:
        return (*loc[:PEER_DEPTH], *loc[PEER_DEPTH + 1 :]), PEER_KINDS[str(loc[2])]
    return loc, None


def _model_at(place: Place) -> type[BaseModel]:
    """The settings class which stands at a place such as ``("audit", "syslog")``."""
    model: type[BaseModel] = Settings
    for key in place:
        kinds = [model.model_fields[str(key)].annotation]
        kinds = [*kinds, *get_args(kinds[0])]
        model = next(
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return model


def _suggestion(name: str, model: type[BaseModel]) -> str:
    close = difflib.get_close_matches(name, model.model_fields, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
