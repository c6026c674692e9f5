"""The node's configuration: ``node.yaml`` and the environment, checked before anything starts."""

from __future__ import annotations

from dicom_node.settings.load import load_settings
from dicom_node.settings.models import (
    AcceptSettings,
    DerivedSettings,
    ListenSettings,
    LoggingSettings,
    ModelSettings,
    PeerSettings,
    RetentionSettings,
    RetrySettings,
    Settings,
    WebSettings,
)

__all__ = [
    "AcceptSettings",
    "DerivedSettings",
    "ListenSettings",
    "LoggingSettings",
    "ModelSettings",
    "PeerSettings",
    "RetentionSettings",
    "RetrySettings",
    "Settings",
    "WebSettings",
    "load_settings",
]
