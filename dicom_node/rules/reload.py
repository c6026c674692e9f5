"""Rules in force, which can be reloaded while the node runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.logs import get_logger
from dicom_node.rules.document import Rule
from dicom_node.rules.load import load_rules
from dicom_node.settings import Settings

log = get_logger(__name__)


class ReloadableRules:
    """The site's rules, as last read without an error.

    Args:
        settings: Path of the file, and the peers.

    Raises:
        ConfigurationError: The file has errors.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sha256 = self._hash()
        self._rules = load_rules(settings)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in order."""
        return self._rules.rules

    @property
    def path(self) -> Path | None:
        """The rules file; None when none is configured."""
        return self._settings.rules

    @property
    def sha256(self) -> str:
        """Hash of the file as last read, whether valid or not; empty without a file."""
        return self._sha256

    def reload(self) -> bool:
        """Read the file again; on errors the old rules stay in force and False is returned."""
        self._sha256 = self._hash()
        try:
            self._rules = load_rules(self._settings)
        except ConfigurationError as error:
            log.error("rules refused, the old ones stay", reason=str(error))
            return False
        log.info("rules read", rules=len(self.rules), sha256=self._sha256)
        return True

    def _hash(self) -> str:
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.path else ""
        except OSError:  # reported by load_rules
            return ""
