"""A secret in the configuration, in any form and at any key, appears in no message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings, load_settings

CANARY = "77665544"
"""It can be a number too."""

BASE: dict[str, Any] = {
    "ae_title": "DENOISE",
    "peers": [
        {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104},
        {"name": "web", "url": "https://pacs.example/dicom-web"},
    ],
    "destinations": ["pacs"],
    "listen": {"port": "no number"},  # so that every file is refused
}

MAIL = {"host": "mail.example", "sender": "a@b.example", "recipients": ["c@d.example"]}
NEIGHBOURS: dict[tuple[str, ...], dict[str, Any]] = {
    ("notify", "email"): MAIL,
    ("notify", "webhook"): {"url": "https://chat.example/hook"},
    ("tls",): {"certificate": "a.pem", "key": "a.key", "authorities": "b.pem"},
    ("audit", "syslog"): {"host": "log.example"},
}
"""What must stand beside a key, so that it alone is wrong."""

NAMES = {("destinations",), ("guard", "limits")}
"""Names of peers and checks are told by design: they are no secrets."""

FORMS: dict[str, Callable[[str], Any]] = {
    "text": lambda secret: secret,
    "number": int,
    "fraction": lambda secret: float(f"{secret}.5"),
    "list": lambda secret: [secret],
    "list of numbers": lambda secret: [int(secret)],
    "mapping": lambda secret: {"value": secret},
    "nested": lambda secret: {"a": [{"b": [int(secret)]}]},
    "web address": lambda secret: f"https://user:{secret}@host.example/x",
    "web address that is cut": lambda secret: f"https://user:{secret}#@host.example/x",
    "address of nothing": lambda secret: f"ftp://user:{secret}@host.example",
    "address without scheme": lambda secret: f"hooks.example/{secret}",
    "database": lambda secret: f"mysql://user:{secret}@host/name",
    "database, malformed": lambda secret: f"postgresql//user:{secret}@host",
    "database, two signs": lambda secret: f"postgresql://user:a@{secret}@host/name",
    "database, colon": lambda secret: f"postgresql://user:a@b:{secret}@host/name",
    "two lines": lambda secret: f"{secret}\n{secret}",
    "bytes": lambda secret: secret.encode(),
}


def places(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        place = (*above, name)
        if place in NAMES or place == ("peers",):
            continue
        yield place
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from places(kind, place)


PLACES = [*places(Settings)]
IN_PEERS = [(0, key) for key in ("ae_title", "host", "port", "tls", "token")] + [
    (1, key) for key in ("url", "token", "username", "password")
]


def with_secret(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The configuration in which this key has this value."""
    document: dict[str, Any] = json.loads(json.dumps(BASE))
    group = document
    for at, key in enumerate(place[:-1]):
        neighbours = NEIGHBOURS.get(place[: at + 1], {})
        group = group.setdefault(key, dict(neighbours))
    group[place[-1]] = value
    if place == ("listen",):
        document["retry"] = {"attempts": "no number"}
    return document


def said(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        load_settings(file)
    return str(error.value)


@hypothesis_settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(place=st.sampled_from(PLACES), form=st.sampled_from(sorted(FORMS)))
def test_no_key_repeats_its_value(tmp_path: Path, place: tuple[str, ...], form: str) -> None:
    document = with_secret(place, FORMS[form](CANARY))
    if place == ("listen", "port"):
        document["retry"] = {"attempts": "no number"}
    assert CANARY not in said(tmp_path / "node.yaml", yaml.safe_dump(document))


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("place", IN_PEERS)
def test_no_key_of_a_peer_repeats_its_value(
    tmp_path: Path, place: tuple[int, str], form: str
) -> None:
    document = with_secret(("storage",), "var")
    document["peers"][place[0]][place[1]] = FORMS[form](CANARY)
    assert CANARY not in said(tmp_path / "node.yaml", yaml.safe_dump(document))


@pytest.mark.parametrize("form", sorted(form for form in FORMS if form.startswith("database")))
def test_a_database_that_cannot_be_used_is_not_repeated(tmp_path: Path, form: str) -> None:
    document = {**BASE, "listen": {}, "database": FORMS[form](CANARY)}
    words = said(tmp_path / "node.yaml", yaml.safe_dump(document))
    assert CANARY not in words
    assert "'database'" in words


@pytest.mark.parametrize(
    "line",
    [
        f"notify: {{email: {{username: u, password:{CANARY}}}}}",
        f"notify: {{webhook: {{token:{CANARY}}}}}",
        f"notify:\n  email:\n    password:{CANARY}\n    host: h",
        f"token: *a{CANARY}",
        f"token: !a{CANARY} x",
        f"token: %a{CANARY}",
        f"token: @a{CANARY}",
        f"token: '{CANARY}",
        f'token: "\\q{CANARY}"',
        f"token: !!int a{CANARY}",
        f"token: [{CANARY}",
        "token: 2001-99-99",
        "token: " + "9" * 5000,
        "notify: &a [*a]",
        "token: " + "[" * 5000,
    ],
)
def test_what_yaml_cannot_read_is_told_without_its_words(tmp_path: Path, line: str) -> None:
    words = said(tmp_path / "node.yaml", yaml.safe_dump(BASE) + line + "\n")
    assert CANARY not in words
    assert all(one.startswith("node.yaml: ") and one.endswith(".") for one in words.splitlines())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DICOM_NODE_NOTIFY__EMAIL__PASSWORD", f'["{CANARY}"]'),
        ("DICOM_NODE_NOTIFY__EMAIL", f'{{"password": {CANARY}}}'),
        ("DICOM_NODE_NOTIFY", f'{{"email": {{"password": {CANARY}'),
        ("DICOM_NODE_PEERS", f'[{{"name": "a", "url": "https://h", "token": {CANARY}}}]'),
        ("DICOM_NODE_DATABASE", f"postgresql://u:{CANARY}@h@x/d"),
    ],
)
def test_a_secret_of_the_environment_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    words = said(tmp_path / "node.yaml", yaml.safe_dump(BASE))
    assert CANARY not in words


def test_a_number_as_password_is_asked_for_in_quotes(tmp_path: Path) -> None:
    document = with_secret(("notify", "email", "password"), int(CANARY))
    assert "'notify.email.password' must be a text: put it in quotes." in said(
        tmp_path / "node.yaml", yaml.safe_dump(document)
    )


def test_a_key_glued_to_its_value_is_cut_off(tmp_path: Path) -> None:
    words = said(tmp_path / "node.yaml", f"ae_title: A\nnotify: {{webhook: {{token:{CANARY}}}}}\n")
    assert "'notify.webhook.token…' is not a known key (put a space after the colon" in words
