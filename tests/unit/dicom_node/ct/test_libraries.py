"""The DICOM libraries as each program sets them, whatever the tests have set before."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest
from pydicom import config

from dicom_node.cli import main as dicom_node
from training.cli import main as man_train


@pytest.mark.parametrize(
    ("name", "program"), [("dicom-node", dicom_node), ("man-train", man_train)]
)
def test_a_program_lets_pydicom_keep_odd_values_and_quote_none(
    monkeypatch: pytest.MonkeyPatch, name: str, program: Callable[[], None]
) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.WARN)
    monkeypatch.setattr(logging.getLogger("pydicom"), "level", logging.WARNING)
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    with pytest.raises(SystemExit):
        program()
    assert config.settings.reading_validation_mode == config.IGNORE
    assert logging.getLogger("pydicom").level == logging.CRITICAL
