"""Reading ``node.yaml`` and the environment into :class:`Settings`; all errors told at once."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from dicom_node.errors import ConfigurationError
from dicom_node.settings.models import (
    ENV_DELIMITER,
    ENV_PREFIX,
    Settings,
)
from dicom_node.settings.sections import PeerSettings, TlsSettings, WebPeerSettings

DEFAULT_FILE = Path("node.yaml")
DEFAULT_RULES = "rules.yaml"

PEER_KINDS: Mapping[str, type[BaseModel]] = {"dicom": PeerSettings, "web": WebPeerSettings}
PEER_DEPTH = 2
"""An error in a peer stands at ("peers", its place, its kind, key)."""

BACKENDS = ("sqlite", "postgresql")

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration file, let the environment override it, check everything.

    Args:
        path: The YAML file; without one ``node.yaml`` of the working directory if there is one,
            else the environment alone.

    Returns:
        Settings whose ``storage`` and SQLite path are absolute (relative ones start at the
        file's folder).

    Raises:
        ConfigurationError: One sentence a line, each naming the file or variable, the key and
            what to do.
    """
    file = path if path is not None else (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    source = file.name if file else "environment"
    values = _read_yaml(file) if file else {}
    problems: list[str] = list(_unknown_variables())
    values = {key: _substitute(value, key, source, problems) for key, value in values.items()}
    settings = _validate(values, source, problems)
    return _resolved(settings, (file.resolve().parent if file else Path.cwd()), source)


def _validate(values: dict[str, Any], source: str, problems: list[str]) -> Settings:
    """Check the values; what goes wrong here comes after ``problems`` in one error."""
    settings: Settings | None = None
    try:
        settings = _YamlSettings(**values)
    except ValidationError as error:
        problems.extend(_sentence(detail, source) for detail in error.errors())
    except SettingsError as error:
        problems.append(f"environment: {error}; lists and groups are written as JSON.")
    if problems or settings is None:
        raise ConfigurationError("\n".join(problems))
    return settings


class _YamlSettings(Settings):
    """Settings in which the environment overrides what the file (the constructor) says."""

    @classmethod
    def settings_customise_sources(cls, *args: Any, **sources: Any) -> tuple[Any, ...]:
        return sources["env_settings"], sources["init_settings"]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); give the node.yaml with -c or write one"
            " with `dicom-node init`."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name}: is not valid YAML; {_yaml_place(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(
            f"{path.name}: must hold `key: value` lines, one for each setting."
        )
    return values


def _yaml_place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "the text cannot be decoded"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{problem}; correct it."


def _substitute(value: Any, key: str, source: str, problems: list[str]) -> Any:
    """Replace ``${NAME}`` in every string by the environment variable of that name."""
    if isinstance(value, dict):
        return {
            name: _substitute(item, f"{key}.{name}", source, problems)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_substitute(item, f"{key}.{at}", source, problems) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            problems.append(
                f"{source}: '{key}' uses ${{{name}}}, which is not set; set this variable."
            )
        return os.environ.get(name, match.group(0))

    return _VARIABLE.sub(variable, value)


def _unknown_variables() -> Iterator[str]:
    """Misspelt ``DICOM_NODE_…`` variables, which would otherwise be ignored in silence."""
    for name in sorted(os.environ):
        key = name.upper().removeprefix(ENV_PREFIX)
        if key == name.upper():
            continue
        first = key.split(ENV_DELIMITER)[0].lower()
        if first not in Settings.model_fields:
            known = _suggestion(first, Settings)
            yield f"environment: {name} is no setting{known}; correct or unset it."


def _sentence(detail: ErrorDetails, source: str) -> str:
    """One validation error as a sentence for the person who edits the file."""
    place, kind = _place(detail["loc"])
    key = ".".join(str(part) for part in place)
    where = _variable_of(place) or source
    if detail["type"] == "extra_forbidden":
        known = _suggestion(str(place[-1]), kind or _model_at(place[:-1]))
        return f"{where}: '{key}' is not a known key{known}; correct or remove it."
    if detail["type"] == "missing":
        return f"{where}: '{key}' is missing; add it."
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":  # our own checks say themselves what to do
        return f"{where}: '{key}' is {detail['input']!r}: {message}."
    return (
        f"{where}: '{key}' is {detail['input']!r}: {message[:1].lower()}{message[1:]}; correct it."
    )


def _variable_of(place: tuple[int | str, ...]) -> str | None:
    """The environment variable that this value came from, if one did."""
    present = {name.upper() for name in os.environ}
    for length in range(len(place), 0, -1):
        name = ENV_PREFIX + ENV_DELIMITER.join(str(part) for part in place[:length]).upper()
        if name in present:
            return name
    return None


def _place(
    loc: tuple[int | str, ...],
) -> tuple[tuple[int | str, ...], type[BaseModel] | None]:
    """Where a value stands in the file, and for a peer which kind pydantic took it for."""
    if len(loc) > PEER_DEPTH and loc[0] == "peers" and loc[2] in PEER_KINDS:
        return (*loc[:PEER_DEPTH], *loc[PEER_DEPTH + 1 :]), PEER_KINDS[str(loc[2])]
    return loc, None


def _model_at(place: tuple[int | str, ...]) -> type[BaseModel]:
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


def _resolved(settings: Settings, folder: Path, source: str) -> Settings:
    """Make the paths absolute, starting at the folder of the configuration file."""
    audit_file = settings.audit.file
    paths: Mapping[str, Any] = {
        "storage": _absolute(settings.storage, folder),
        "database": _located(settings, folder, source),
        "rules": _rules_file(settings.rules, folder),
        "tls": _tls_files(settings, folder),
        "audit": settings.audit.model_copy(
            update={"file": audit_file and _absolute(audit_file, folder)}
        ),
    }
    return settings.model_copy(update=paths)


def _located(settings: Settings, folder: Path, source: str) -> str:
    """The database's URL with an absolute file, or with the driver that this program brings."""
    try:
        url = make_url(settings.database)
    except ArgumentError as error:
        raise ConfigurationError(
            f"{source}: 'database' is no database URL; write sqlite:///path/to/ledger.db."
        ) from error
    if url.get_backend_name() not in BACKENDS:
        raise ConfigurationError(
            f"{source}: 'database' names {url.get_backend_name()}, which this program cannot use;"
            " write sqlite:///path/to/ledger.db or postgresql+psycopg://user@host/name."
        )
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(
            f"{source}: 'database' needs a file; write sqlite:///path/to/ledger.db."
        )
    located = url.set(database=str((folder / url.database).resolve()))
    return located.render_as_string(hide_password=False)


def _rules_file(named: Path | None, folder: Path) -> Path | None:
    """The rules file named, else ``rules.yaml`` beside the configuration if there is one."""
    if named is not None:
        return _absolute(named, folder)
    beside = folder / DEFAULT_RULES
    return beside if beside.is_file() else None


def _tls_files(settings: Settings, folder: Path) -> TlsSettings | None:
    if settings.tls is None:
        return None
    files = {name: _absolute(path, folder) for name, path in settings.tls}
    return settings.tls.model_copy(update=files)


def _absolute(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).resolve()
