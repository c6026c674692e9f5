"""Loading of ``rules.yaml``, which reports all errors at once, each with its line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dicom_node.errors import ConfigurationError
from dicom_node.rules.document import TESTS, Overrides, Rule, Rules
from dicom_node.settings import NO_REFERENCE, Settings
from dicom_node.settings.messages import clause_of, suggestion
from dicom_node.work_order import AUTO
from dicom_node.yaml_document import (
    Place,
    children,
    compose_yaml,
    plain_values,
    repeated_keys,
)
from man_core import ModelError, find_model

NO_RULES: Final = Rules()

MAX_QUOTED_CHARACTERS: Final = 60

RULE_DEPTH: Final = 2
"""A rule has the location ("rules", index), its keys one deeper."""


def load_rules(settings: Settings, named: Path | None = None) -> Rules:
    """Load the configured rules file, or another one that is named; no rules without one.

    Raises:
        ConfigurationError: One message a line, each with the file, the line, the key and the
            remedy.
    """
    path = named or settings.rules
    if path is None:
        return NO_RULES
    peers = [peer.name for peer in settings.peers]
    model = settings.model
    referenced = model.noise_reference is not None
    return read_rules(path, peers=peers, model=model.name, referenced=referenced)


def read_rules(
    path: Path, *, peers: Collection[str], model: str = "", referenced: bool = True
) -> Rules:
    """Read and validate a rules file.

    Args:
        path: The file.
        peers: Names that a rule may use as destinations.
        model: Name of the default model; empty: unknown.
        referenced: Whether node.yaml names a noise reference, which ``dose_gain: auto`` needs.

    Raises:
        ConfigurationError: See :func:`load_rules`.
    """
    root = _parse(path)
    if root is None:
        return NO_RULES
    lines = dict(_lines(root, ()))
    problems = [
        _at(path, lines, place, "occurs twice; keep one") for place, _ in repeated_keys(root)
    ]
    try:
        rules = Rules.model_validate(plain_values(root))
    except ValidationError as error:
        problems += [_message(path, lines, detail) for detail in error.errors()]
        raise ConfigurationError("\n".join(problems)) from None
    unusable = (*_unusable(rules, peers, model), *(() if referenced else _unreferenced(rules)))
    problems += [_at(path, lines, place, text) for place, text in unusable]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return rules


def _parse(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
        aliases = [event for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent)]
        root = None if aliases else compose_yaml(text)
        if root is not None:
            plain_values(root)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); correct `rules` in node.yaml."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "the text cannot be read"
        raise ConfigurationError(
            f"{path.name}{line}: is not valid YAML, {problem}; correct it."
        ) from error
    if aliases:  # they may contain themselves, or expand to a million values
        raise ConfigurationError(
            f"{path.name}: `*` refers to another place; write its content out in full."
        )
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(
            f"{path.name}: must begin with `rules:`, followed by the list of rules; add that line."
        )
    return root


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    for key, start, value in children(node):
        yield (*place, key), start.start_mark.line + 1
        yield from _lines(value, (*place, key))


def _message(path: Path, lines: dict[Place, int], detail: ErrorDetails) -> str:
    place = detail["loc"]
    if detail["type"] == "extra_forbidden":
        known = suggestion(str(place[-1]), _known_at(place))
        return _at(path, lines, place, f"is not a known key{known}; correct or remove it")
    clause = clause_of(detail)
    if detail["type"] == "value_error":
        return _at(path, lines, place, f"is wrong: {clause}")
    if detail["type"] in ("tuple_type", "model_type", "model_attributes_type", "dict_type"):
        clause = "a list was expected" if "tuple" in detail["type"] else "keys were expected"
    given = repr(detail["input"])
    if len(given) > MAX_QUOTED_CHARACTERS:
        given = f"{given[:MAX_QUOTED_CHARACTERS]}..."
    return _at(path, lines, place, f"is {given}: {clause}; correct it")


def _known_at(place: Place) -> Collection[str]:
    if len(place) <= RULE_DEPTH:
        return Rules.model_fields
    if len(place) == RULE_DEPTH + 1:
        return Rule.model_fields
    return Overrides.model_fields if place[RULE_DEPTH] == "denoise" else TESTS


def _unusable(
    rules: Rules, peers: Collection[str], default_model: str
) -> Iterator[tuple[Place, str]]:
    """Report destinations and models that do not exist, and dose gains that a model cannot have."""
    for number, rule in enumerate(rules.rules):
        work = rule.denoise or Overrides()
        below: Place = ("rules", number, "denoise")
        for index, name in enumerate(work.destinations or ()):
            if name not in peers:
                hint = suggestion(name, peers) or f" (known: {', '.join(sorted(peers))})"
                text = f"is {name!r}, which is not a peer in node.yaml{hint}; correct it or add it"
                yield (*below, "destinations", index), text
        if work.model is not None and (reason := _no_model(work.model)):
            yield (*below, "model"), f"is wrong: {reason}"
        elif reason := _no_gain(work.model or default_model, work.required_gain):
            key = "target_noise_hu" if work.dose_gain is None else "dose_gain"
            yield (*below, key), f"is wrong: {reason.rstrip('.')}"


def _unreferenced(rules: Rules) -> Iterator[tuple[Place, str]]:
    """Report dose gains that lack the noise reference from which they follow."""
    for number, rule in enumerate(rules.rules):
        if rule.denoise is not None and rule.denoise.dose_gain == AUTO:
            yield ("rules", number, "denoise", "dose_gain"), f"is wrong: {NO_REFERENCE}"


def _no_model(name: str) -> str:
    try:
        find_model(name)
    except ModelError as error:
        return str(error)
    return ""


def _no_gain(model: str, gain: float | None) -> str:
    """Return why a model cannot be told a dose gain; empty if it can, or is not known."""
    if gain is None or _no_model(model):
        return ""
    try:
        find_model(model)[0].dose_gain_for(gain)
    except ModelError as error:
        return str(error)
    return ""


def _at(path: Path, lines: dict[Place, int], place: Place, text: str) -> str:
    """Complete a message by file, line and key; a missing key gets the line of its parent."""
    inside = place
    while inside and inside not in lines:
        inside = inside[:-1]
    line = f" line {lines[inside]}" if inside else ""
    rule = f"rule {int(place[1]) + 1}: " if len(place) > 1 and isinstance(place[1], int) else ""
    key = ".".join(str(part) for part in (inside[RULE_DEPTH:] if rule else inside))
    what = f"'{key}' " if key else ("it " if rule else "'rules' ")
    return f"{path.name}{line}: {rule}{what}{text}."
