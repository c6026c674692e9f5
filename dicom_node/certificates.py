"""Mutual TLS: the state of the certificates, and why a handshake failed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dicom_node.errors import ConfigurationError
from dicom_node.settings import TlsSettings
from dicom_node.tls import (
    calling_context,
    listening_context,
    no_certificate,
    read_pem,
)

RENEW_DAYS = 30
"""`check` finds fault with a certificate that ends sooner."""

DAY_SECONDS = 86400

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _VERSION = 0x30, 0x17, 0xA0
_SERIAL_TO_VALIDITY = 3
"""Serial number, signature algorithm and issuer come before the validity (RFC 5280, 4.1)."""


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
        """Days until it ends; negative when it has ended."""
        return (self.ends_at - now) / DAY_SECONDS


def certificates(tls: TlsSettings) -> list[Certificate]:
    """Every certificate in the files that ``tls`` names, this node's own first.

    Raises:
        ConfigurationError: A file is missing, or holds no certificate.
    """
    own = _certificates_in(tls.certificate, "certificate")
    return [*own, *_certificates_in(tls.authorities, "authorities")]


def check_certificates(tls: TlsSettings, *, now: float) -> str:
    """See that the files fit together and that nothing ends within `RENEW_DAYS`.

    Args:
        tls: The files.
        now: Seconds since 1970.

    Returns:
        How long the certificates last, for `check`.

    Raises:
        ConfigurationError: A file is missing, unreadable or of no use, or a certificate is not yet
            valid, has ended or ends soon.
    """
    listening_context(tls)
    calling_context(tls)
    found = certificates(tls)
    for certificate in found:
        _check_validity(certificate, now)
    first = min(found, key=lambda certificate: certificate.ends_at)
    return f"{len(found)} certificates; the first to end is in {first.path.name}: {_until(first)}"


def why_refused(error: OSError) -> str:
    """Why a TLS handshake failed, in words for a log line; never what the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no TLS handshake in time"
    reason: str | None = getattr(error, "reason", None)  # OpenSSL's own errors have one
    if reason:
        return _REASONS.get(reason, reason.lower().replace("_", " "))
    return "the connection ended in the TLS handshake"


_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNEXPECTED_MESSAGE": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version since 1.2",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust this node's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses this node's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses this node's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this node's certificate has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate",
}
"""What OpenSSL calls the usual troubles."""


def _certificates_in(path: Path, role: Literal["certificate", "authorities"]) -> list[Certificate]:
    text = read_pem(path)
    try:
        found = [Certificate(path, role, *_validity(pem)) for pem in _blocks(text)]
    except (ValueError, IndexError) as error:
        raise ConfigurationError(no_certificate(path)) from error
    if not found:
        raise ConfigurationError(no_certificate(path))
    return found


def _blocks(text: str) -> Iterator[str]:
    for block in text.split(_BEGIN)[1:]:
        yield f"{_BEGIN}{block.partition(_END)[0]}{_END}"


def _validity(pem: str) -> tuple[float, float]:
    """The first and the last second of a certificate's validity, seconds since 1970."""
    whole = _content(ssl.PEM_cert_to_DER_cert(pem))
    parts = list(_elements(_content(whole)))
    if parts[0][0] == _VERSION:
        parts = parts[1:]
    (begin, end) = list(_elements(parts[_SERIAL_TO_VALIDITY][1]))
    return _seconds(*begin), _seconds(*end)


def _seconds(tag: int, text: bytes) -> float:
    year_digits = "%y" if tag == _UTC_TIME else "%Y"
    moment = datetime.strptime(text.decode("ascii"), f"{year_digits}%m%d%H%M%SZ")
    return moment.replace(tzinfo=UTC).timestamp()


def _content(der: bytes) -> bytes:
    tag, content = next(_elements(der))
    if tag != _SEQUENCE:
        raise ValueError("no DER sequence")
    return content


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements, tag and content, that stand one after another in DER (X.690)."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        if at + length > len(der):
            raise ValueError("an element is cut short")
        yield tag, der[at : at + length]
        at += length


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
    if left < RENEW_DAYS:
        raise ConfigurationError(
            f"A certificate in {certificate.path} ends in {left:.0f} days ({_until(certificate)}):"
            " renew it, then restart the node."
        )


def _until(certificate: Certificate) -> str:
    return f"{datetime.fromtimestamp(certificate.ends_at, UTC):%Y-%m-%d}"
