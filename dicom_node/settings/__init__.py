"""Configuration of the node from ``node.yaml`` and the environment, validated at the start."""

from __future__ import annotations

from dicom_node.settings.denoising import NO_REFERENCE, DerivedSettings, ModelSettings
from dicom_node.settings.guard import GuardSettings, guard_limits
from dicom_node.settings.health import HealthSettings
from dicom_node.settings.load import load_settings
from dicom_node.settings.models import Settings
from dicom_node.settings.secrets import holds_secrets
from dicom_node.settings.sections import (
    AcceptSettings,
    AuditSettings,
    CompletionSettings,
    EmailSettings,
    ListenSettings,
    LoggingSettings,
    NotifySettings,
    OffPeakSettings,
    PeerSettings,
    RetentionSettings,
    RetrySettings,
    SyslogSettings,
    TlsSettings,
    WebhookSettings,
    WebPeerSettings,
    WebSettings,
)
from dicom_node.settings.values import GIB

__all__ = [
    "GIB",
    "NO_REFERENCE",
    "AcceptSettings",
    "AuditSettings",
    "CompletionSettings",
    "DerivedSettings",
    "EmailSettings",
    "GuardSettings",
    "HealthSettings",
    "ListenSettings",
    "LoggingSettings",
    "ModelSettings",
    "NotifySettings",
    "OffPeakSettings",
    "PeerSettings",
    "RetentionSettings",
    "RetrySettings",
    "Settings",
    "SyslogSettings",
    "TlsSettings",
    "WebPeerSettings",
    "WebSettings",
    "WebhookSettings",
    "guard_limits",
    "holds_secrets",
    "load_settings",
]
