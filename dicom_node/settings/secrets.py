"""Detection of secrets that ``node.yaml`` itself contains."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from dicom_node.settings.messages import secret_names

_VARIABLE = re.compile(r"\$\{\w+\}")
_ADDRESS_WITH_PASSWORD = re.compile(r"\w+://[^/@:]*:(?P<password>[^@]+)@")


def holds_secrets(path: Path) -> bool:
    """Whether the file itself contains a password or token."""
    try:
        return _is_secret(yaml.safe_load(path.read_text(encoding="utf-8")), named=False)
    except (OSError, yaml.YAMLError, ValueError, RecursionError):  # loading reports it
        return False


def _is_secret(value: object, *, named: bool) -> bool:
    if isinstance(value, dict):
        return any(_is_secret(item, named=key in secret_names()) for key, item in value.items())
    if isinstance(value, list):
        return any(_is_secret(item, named=named) for item in value)
    if not isinstance(value, str):
        return False
    address = _ADDRESS_WITH_PASSWORD.match(value)
    secret = address["password"] if address else value if named else ""
    return bool(_VARIABLE.sub("", secret))
