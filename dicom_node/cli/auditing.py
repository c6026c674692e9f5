"""Audit of operators' actions: each is recorded in the audit trail with its outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dicom_node.audit import open_audit
from dicom_node.cli.configuration import read_settings
from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.logs import configure_logging
from dicom_node.settings import Settings


@contextmanager
def audited(settings: Settings, act: str, subject: str) -> Iterator[None]:
    """Record the action of the block in the audit trail.

    Args:
        settings: The configuration of the audit trail.
        act: The command, such as ``jobs retry``.
        subject: Its object, such as ``job/17``.

    Raises:
        ConfigurationError: The trail cannot be opened; the action is then not carried out.
        StorageError: Likewise.
    """
    configure_logging(settings.logging, process=act)
    audit = open_audit(settings)
    failure = "it was interrupted"
    try:
        yield
        failure = ""
    except NodeError as error:
        failure = str(error)
        raise
    except Exception as error:
        failure = type(error).__name__
        raise
    finally:
        audit.act(act, subject=subject, failure=failure)
        audit.close()


@contextmanager
def audited_ledger(config: Path | None, act: str, subject: str) -> Iterator[Ledger]:
    """Open the ledger for an audited action.

    Args:
        config: The configuration file given to the command.
        act: The command, such as ``jobs retry``.
        subject: Its object, such as ``job/17``.
    """
    settings = read_settings(config)
    with audited(settings, act, subject), closing(open_ledger(settings.database)) as ledger:
        yield ledger
