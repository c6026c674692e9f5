"""Loading of ``node.yaml`` and the environment, with all errors reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from pydantic_settings import SettingsError

from dicom_node.errors import ConfigurationError
from dicom_node.settings.messages import (
    key_path,
    message_of,
    unknown_variables,
    yaml_message,
)
from dicom_node.settings.models import Settings
from dicom_node.settings.sections import TlsSettings
from dicom_node.yaml_document import Place, compose_yaml, plain_values, repeated_keys

if TYPE_CHECKING:  # not loaded where no configuration is read
    from sqlalchemy.engine import URL

DEFAULT_FILE = Path("node.yaml")
DEFAULT_RULES = "rules.yaml"

LEDGER_FILE = "ledger.db"
EARLIER_LEDGER = Path("var/ledger.db")
"""Former default, relative to the configuration's folder, before it followed ``storage``."""

BACKENDS = ("sqlite", "postgresql")

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration file and the environment, which overrides it, and validate them.

    Args:
        path: The YAML file; None for ``node.yaml`` of the working directory if it exists, else the
            environment alone.

    Returns:
        Settings with absolute paths (relative ones start at the file's folder).

    Raises:
        ConfigurationError: One message a line, each with the file or variable, the key and the
            remedy.
    """
    file = path if path is not None else (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    source = file.name if file else "environment"
    problems: list[str] = list(unknown_variables())
    values = _read_yaml(file, problems) if file else {}
    values = _filled_in(values, source, problems)
    settings = _validate(values, source, problems)
    return _resolved(settings, (file.resolve().parent if file else Path.cwd()), source)


def _validate(values: dict[str, Any], source: str, problems: list[str]) -> Settings:
    """Validate the values; errors join ``problems`` in one exception."""
    settings: Settings | None = None
    try:
        settings = _YamlSettings(**values)
    except ValidationError as error:
        problems.extend(message_of(detail, source) for detail in error.errors())
    except SettingsError as error:
        problems.append(f"environment: {error}; lists and groups are written as JSON.")
    if problems or settings is None:
        raise ConfigurationError("\n".join(problems))
    return settings


class _YamlSettings(Settings):
    """Settings in which the environment overrides the file (the constructor's arguments)."""

    @classmethod
    def settings_customise_sources(cls, *args: Any, **sources: Any) -> tuple[Any, ...]:
        return sources["env_settings"], sources["init_settings"]


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
    """Read the values of the file; repeated keys join ``problems``."""
    try:
        root = compose_yaml(path.read_text(encoding="utf-8"))
        problems += _repeated(root, path.name) if root is not None else ()
        values = plain_values(root) if root is not None else None
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error.strerror}); give the node.yaml with -c or write one"
            " with `dicom-node init`."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(yaml_message(error, path.name)) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(
            f"{path.name}: must hold `key: value` lines, one for each setting."
        )
    return values


def _repeated(root: yaml.Node, source: str) -> list[str]:
    return [
        f"{source}: '{key_path(place)}' occurs twice (line {key.start_mark.line + 1}); keep one."
        for place, key in repeated_keys(root)
    ]


def _filled_in(values: dict[str, Any], source: str, problems: list[str]) -> dict[str, Any]:
    """Replace ``${NAME}`` in all values."""
    try:
        return {name: _substitute(item, (name,), source, problems) for name, item in values.items()}
    except RecursionError as error:
        raise ConfigurationError(
            f"{source}: lists or groups contain themselves; write them out."
        ) from error


def _substitute(value: Any, place: Place, source: str, problems: list[str]) -> Any:
    """Replace ``${NAME}`` in every string by the environment variable of that name."""
    if isinstance(value, dict):
        return {
            name: _substitute(item, (*place, str(name)), source, problems)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_substitute(item, (*place, at), source, problems) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            problems.append(
                f"{source}: '{key_path(place)}' uses ${{{name}}}, which is not set; set this"
                " variable."
            )
        return os.environ.get(name, match.group(0))

    return _VARIABLE.sub(variable, value)


def _resolved(settings: Settings, folder: Path, source: str) -> Settings:
    """Make the paths absolute, relative to the folder of the configuration file."""
    audit_file, reference = settings.audit.file, settings.model.noise_reference
    paths: Mapping[str, Any] = {
        "storage": _absolute(settings.storage, folder),
        "database": _located(settings, folder, source),
        "rules": _rules_file(settings.rules, folder),
        "tls": _tls_files(settings, folder),
        "model": settings.model.model_copy(
            update={"noise_reference": reference and _absolute(reference, folder)}
        ),
        "audit": settings.audit.model_copy(
            update={"file": audit_file and _absolute(audit_file, folder)}
        ),
    }
    return settings.model_copy(update=paths)


def _located(settings: Settings, folder: Path, source: str) -> str:
    """Return the database URL with an absolute file, or with the driver of this program."""
    from sqlalchemy.engine import URL

    if not settings.database:
        path = _default_ledger(_absolute(settings.storage, folder), folder)
        return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    url = _database_url(settings.database, source)
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(
            f"{source}: 'database' needs a file; write sqlite:///path/to/ledger.db."
        )
    located = url.set(drivername="sqlite", database=str((folder / url.database).resolve()))
    return located.render_as_string(hide_password=False)


def _database_url(text: str, source: str) -> URL:
    """Parse the URL; a message does not repeat it, since it may contain a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"{source}: 'database' is not a database URL; write sqlite:///path/to/ledger.db, and in"
            " a password %40 for @, %3A for : and %2F for /."
        ) from error
    if url.get_backend_name() not in BACKENDS:
        raise ConfigurationError(
            f"{source}: 'database' names a database that this program cannot use;"
            " write sqlite:///path/to/ledger.db or postgresql+psycopg://user@host/name."
        )
    if "@" in (url.host or ""):  # the rest of a password, which would appear in every message
        raise ConfigurationError(
            f"{source}: 'database' has an @ in its password or host; write %40 for it."
        )
    return url


def _default_ledger(storage: Path, folder: Path) -> Path:
    """Return the ledger in the storage folder, or the one that an earlier version has left."""
    inside, earlier = storage / LEDGER_FILE, (folder / EARLIER_LEDGER).resolve()
    return earlier if earlier.is_file() and not inside.is_file() else inside


def _rules_file(named: Path | None, folder: Path) -> Path | None:
    """Return the rules file named, else ``rules.yaml`` beside the configuration if it exists."""
    if named is not None:
        return _absolute(named, folder)
    beside = folder / DEFAULT_RULES
    return beside if beside.is_file() else None


def _tls_files(settings: Settings, folder: Path) -> TlsSettings | None:
    if settings.tls is None:
        return None
    files = {name: _absolute(path, folder) for name, path in settings.tls if isinstance(path, Path)}
    return settings.tls.model_copy(update=files)


def _absolute(path: Path, folder: Path) -> Path:
    return (folder / path.expanduser()).resolve()
