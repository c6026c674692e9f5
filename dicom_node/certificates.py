"""Validity of the certificates that ``tls`` names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509

from dicom_node.errors import ConfigurationError
from dicom_node.settings import TlsSettings
from dicom_node.tls import client_context, no_certificate, read_pem, server_context

MIN_VALIDITY_DAYS = 30
"""`check` reports a certificate that ends sooner."""

DAY_SECONDS = 86400


@dataclass(frozen=True)
class Certificate:
    """One certificate of the files that ``tls`` names.

    Attributes:
        role: Whether it is this node's own (or of its chain), or one that it trusts.
        begins_at: First second of its validity, seconds since 1970.
        ends_at: Last second of its validity, seconds since 1970.
    """

    path: Path
    role: Literal["certificate", "authorities"]
    begins_at: float
    ends_at: float

    def days_left(self, now: float) -> float:
        """Return the days until it ends; negative when it has ended."""
        return (self.ends_at - now) / DAY_SECONDS


def read_certificates(tls: TlsSettings) -> list[Certificate]:
    """Read every certificate in the files that ``tls`` names, this node's own first.

    Raises:
        ConfigurationError: A file is missing, or holds no certificate.
    """
    own = _certificates_in(tls.certificate, "certificate")
    return [*own, *_certificates_in(tls.authorities, "authorities")]


def check_certificates(tls: TlsSettings, *, now: float) -> str:
    """Check that the files fit together and that nothing ends within `MIN_VALIDITY_DAYS`.

    Args:
        tls: The files.
        now: Seconds since 1970.

    Returns:
        How long the certificates last, for `check`.

    Raises:
        ConfigurationError: A file is missing, unreadable or unusable, or a certificate is not yet
            valid, has expired or ends soon.
    """
    server_context(tls)
    client_context(tls)
    found = read_certificates(tls)
    for certificate in found:
        _check_validity(certificate, now)
    first = min(found, key=lambda certificate: certificate.ends_at)
    return f"{len(found)} certificates; the first to end is in {first.path.name}: {_until(first)}"


def _certificates_in(path: Path, role: Literal["certificate", "authorities"]) -> list[Certificate]:
    pem = read_pem(path)
    try:
        return [
            Certificate(
                path,
                role,
                begins_at=found.not_valid_before_utc.timestamp(),
                ends_at=found.not_valid_after_utc.timestamp(),
            )
            for found in x509.load_pem_x509_certificates(pem)
        ]
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigurationError(no_certificate(path)) from error


def _check_validity(certificate: Certificate, now: float) -> None:
    if certificate.begins_at > now:
        raise ConfigurationError(
            f"A certificate in {certificate.path} is not valid yet: see whether the clock is right."
        )
    left = certificate.days_left(now)
    if left < 0:
        raise ConfigurationError(
            f"A certificate in {certificate.path} has expired ({_until(certificate)}): renew it,"
            " then restart the node."
        )
    if left < MIN_VALIDITY_DAYS:
        raise ConfigurationError(
            f"A certificate in {certificate.path} ends in {left:.0f} days ({_until(certificate)}):"
            " renew it, then restart the node."
        )


def _until(certificate: Certificate) -> str:
    return f"{datetime.fromtimestamp(certificate.ends_at, UTC):%Y-%m-%d}"
