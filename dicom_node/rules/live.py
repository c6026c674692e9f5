"""The rules in force, which can be read again while the node runs."""

from __future__ import annotations

from dicom_node.errors import ConfigurationError
from dicom_node.logs import get_logger
from dicom_node.rules.document import Rule
from dicom_node.rules.load import load_rules
from dicom_node.settings import Settings

log = get_logger(__name__)


class LiveRules:
    """The site's rules, as they were when last read without a mistake.

    Args:
        settings: Names the file and the peers.

    Raises:
        ConfigurationError: The file has mistakes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rules = load_rules(settings)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in order."""
        return self._rules.rules

    def reload(self) -> bool:
        """Read the file again; with mistakes in it the old rules stay, and this returns False."""
        try:
            self._rules = load_rules(self._settings)
        except ConfigurationError as error:
            log.error("rules refused, the old ones stay", reason=str(error))
            return False
        log.info("rules read", rules=len(self.rules))
        return True
