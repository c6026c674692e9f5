"""TLS contexts for both directions, and the reasons of failed handshakes.

The contexts follow PS3.15 annex B, the profiles after BCP 195 (RFC 8996, RFC 9325): TLS 1.2 or
newer, forward secrecy and authenticated encryption (ECDHE with AES-GCM or ChaCha20; no CBC, no RSA
key exchange), and mutual authentication. A server must present a certificate for the host name or
address that the configuration gives; a client must present one that the configured authorities
have signed (which clients may connect, and from where, is up to ``accept``).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.settings import TlsSettings

CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, in OpenSSL's notation; all suites of TLS 1.3 have these properties."""

_HANDSHAKE_FAILURES = {
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
"""Clauses for OpenSSL's reason codes."""


def server_context(tls: TlsSettings) -> ssl.SSLContext:
    """Make the listener's context, which requires a certificate of every client.

    Raises:
        ConfigurationError: A file is missing, unreadable or unusable.
    """
    context = _loaded(_hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), tls)
    context.verify_mode = ssl.CERT_REQUIRED
    # A reader that waits for a message would take a session ticket for the beginning of one.
    # Sessions are not resumed here.
    context.num_tickets = 0
    return context


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """Make the context for peers, which must present a certificate for the host name called.

    Raises:
        ConfigurationError: A file is missing, unreadable or unusable.
    """
    return _loaded(_hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), tls)


def public_context() -> ssl.SSLContext:
    """Make the context for servers outside the scope of ``tls``, such as a mail server.

    It trusts the operating system's authorities and presents no certificate of this node.
    """
    return _hardened(ssl.create_default_context())


def handshake_failure(error: OSError) -> str:
    """Return why a TLS handshake failed, as a clause; never anything that the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message.rstrip('.')}"
    if isinstance(error, TimeoutError):
        return "no TLS handshake in time"
    reason: str | None = getattr(error, "reason", None)  # OpenSSL's own errors have one
    if reason:
        return _HANDSHAKE_FAILURES.get(reason, reason.lower().replace("_", " "))
    return "the connection ended in the TLS handshake"


def read_pem(path: Path) -> bytes:
    """Return the content of a file that ``tls`` names.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}): correct `tls` in node.yaml, or the file's"
            " owner."
        ) from error


def no_certificate(path: Path) -> str:
    """Return the message about a file without a certificate."""
    return f"{path} holds no readable certificate: it must be a PEM file."


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _loaded(context: ssl.SSLContext, tls: TlsSettings) -> ssl.SSLContext:
    # A peer's own certificate among the authorities authenticates that peer alone.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in (tls.certificate, tls.key, tls.authorities):
        read_pem(path)
    password = tls.key_password.get_secret_value() if tls.key_password is not None else ""
    try:
        # Without a password callback OpenSSL would prompt at the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(_unusable_pair(tls, error)) from error
    try:
        context.load_verify_locations(tls.authorities)
    except ssl.SSLError as error:
        raise ConfigurationError(no_certificate(tls.authorities)) from error
    return context


def _unusable_pair(tls: TlsSettings, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"{tls.key} is not the key of {tls.certificate}: name the pair under `tls` in"
            " node.yaml."
        )
    if reason == "EE_KEY_TOO_SMALL":
        return f"The key of {tls.certificate} is too short: have one of at least 2048 bits made."
    return (
        f"{tls.certificate} and {tls.key} cannot be used: both must be PEM files, the key without"
        " a password or with the one in `tls.key_password`."
    )
