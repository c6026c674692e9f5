"""Messages about errors in the configuration, which never repeat a value.

A value may be a password in an unexpected place: as a number, as a list, at the wrong key, or
joined to its key by a missing space. A message therefore says only where a value is and why it is
wrong. Exceptions are the names of peers and of the guard's checks, which are not secret.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from dicom_node.settings.models import ENV_DELIMITER, ENV_PREFIX, Settings
from dicom_node.settings.sections import PeerSettings, WebPeerSettings
from dicom_node.yaml_document import Place

PEER_KINDS: Mapping[str, type[BaseModel]] = {"dicom": PeerSettings, "web": WebPeerSettings}
PEER_DEPTH = 2
"""An error in a peer has the location ("peers", index, kind, key)."""

MAX_KEY_CHARACTERS = 40
"""No key of the configuration is longer."""

_KEY = re.compile(r"[A-Za-z][\w-]*")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def message_of(detail: ErrorDetails, source: str) -> str:
    """Format a validation error for the person who edits the file."""
    place, kind = _place(detail["loc"])
    key = key_path(place)
    where = _variable_of(place) or source
    if detail["type"] == "extra_forbidden":
        return f"{where}: '{key}' is not a known key{_remedy(place, kind)}; correct or remove it."
    if detail["type"] == "missing":
        return f"{where}: '{key}' is missing; add it."
    if place[-1] in secret_names():
        return f"{where}: '{key}' must be a text: put it in quotes."
    remedy = "" if detail["type"] == "value_error" else "; correct it"  # our own checks have one
    return f"{where}: '{key}' is wrong: {clause_of(detail)}{remedy}."


def clause_of(detail: ErrorDetails) -> str:
    """Return pydantic's message as a clause, without capital and full stop."""
    if detail["type"] == "path_type":
        return "a path in text is expected"
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":  # raised here as a clause
        return message
    return f"{message[:1].lower()}{message[1:]}"


def suggestion(name: str, known: Collection[str]) -> str:
    """Return a remark on the closest known name, to append; empty when none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def yaml_message(error: Exception, name: str) -> str:
    """Format a YAML error without the text that the parser quotes."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "a value in it cannot be read"
    problem = _QUOTED.sub("a text", str(problem).splitlines()[0])
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{name}: is not valid YAML; {where}{problem}; put texts with special signs in quotes."


def unknown_variables() -> Iterator[str]:
    """Report misspelt ``DICOM_NODE_…`` variables, which pydantic would ignore silently."""
    for name in sorted(os.environ):
        key = name.upper().removeprefix(ENV_PREFIX)
        if key == name.upper():
            continue
        first = key.split(ENV_DELIMITER)[0].lower()
        if first not in Settings.model_fields:
            known = suggestion(first, Settings.model_fields)
            yield f"environment: {name} is not a setting{known}; correct or unset it."


def key_path(place: Place) -> str:
    """Format a place, such as ``peers.0.port``; what does not look like a key is cut off."""
    return ".".join(str(part) if isinstance(part, int) else _shown(part) for part in place)


@cache
def secret_names() -> frozenset[str]:
    """Return the keys whose values are secret, such as ``password``."""
    return frozenset(_secrets_below(Settings))


def _secrets_below(annotation: Any) -> Iterator[str]:
    """Yield the names of SecretStr fields in a model and in the models that it contains."""
    for kind in get_args(annotation):
        yield from _secrets_below(kind)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if SecretStr in (field.annotation, *get_args(field.annotation)):
                yield name
            else:
                yield from _secrets_below(field.annotation)


def _shown(key: str) -> str:
    """Return a key, or its beginning when more than a key is there (``password:value``)."""
    match = _KEY.match(key[:MAX_KEY_CHARACTERS])
    beginning = match.group() if match else ""
    return key if beginning == key else f"{beginning}…"


def _remedy(place: Place, kind: type[BaseModel] | None) -> str:
    name = str(place[-1])
    if _shown(name) != name:
        return " (put a space after the colon of a key)"
    return suggestion(name, (kind or _model_at(place[:-1])).model_fields)


def _variable_of(place: Place) -> str | None:
    """Return the environment variable that set a value, if one did."""
    present = {name.upper() for name in os.environ}
    for length in range(len(place), 0, -1):
        name = ENV_PREFIX + ENV_DELIMITER.join(str(part) for part in place[:length]).upper()
        if name in present:
            return name
    return None


def _place(loc: Place) -> tuple[Place, type[BaseModel] | None]:
    """Return the place of a value in the file, and for a peer the kind chosen by pydantic."""
    if len(loc) > PEER_DEPTH and loc[0] == "peers" and loc[2] in PEER_KINDS:
        return (*loc[:PEER_DEPTH], *loc[PEER_DEPTH + 1 :]), PEER_KINDS[str(loc[2])]
    return loc, None


def _model_at(place: Place) -> type[BaseModel]:
    """Return the settings class at a place such as ``("audit", "syslog")``."""
    model: type[BaseModel] = Settings
    for key in place:
        kinds = [model.model_fields[str(key)].annotation]
        kinds = [*kinds, *get_args(kinds[0])]
        model = next(
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        )
    return model
