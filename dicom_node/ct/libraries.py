"""Settings of the DICOM libraries, made once by each entry point."""

from __future__ import annotations

import logging

from pydicom import config


def prepare_dicom_libraries() -> None:
    """Let pydicom keep values that break their VR's rules, and say nothing about them.

    pydicom would quote such a value in a warning or a log line, and it can be a patient's name.
    """
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
