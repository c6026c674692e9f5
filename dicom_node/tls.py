"""The TLS contexts of this node, in both directions, made in one place.

PS3.15 annex B, the profiles after BCP 195 (RFC 8996, RFC 9325): TLS 1.2 or newer, forward secrecy
and authenticated encryption (ECDHE with AES-GCM or ChaCha20; no CBC, no RSA key exchange), and both
sides show a certificate. Whom this node calls must show a certificate for the host name or address
that the configuration calls; whoever calls this node must show one that the authorities vouch for
(who may call from where is said by ``accept``).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.settings import TlsSettings

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, in the words of OpenSSL; all suites of TLS 1.3 have these properties."""


def listening_context(tls: TlsSettings) -> ssl.SSLContext:
    """Make the listener's context: whoever connects shows a certificate, or the connection ends.

    Raises:
        ConfigurationError: A file is missing, unreadable or of no use.
    """
    context = _loaded(_hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), tls)
    context.verify_mode = ssl.CERT_REQUIRED
    # A session ticket is data without a message in it: a reader that waits for a message would
    # take it for one. Sessions are not resumed here.
    context.num_tickets = 0
    return context


def calling_context(tls: TlsSettings) -> ssl.SSLContext:
    """Make the context for calls: the peer shows a certificate for the host name that is called.

    Raises:
        ConfigurationError: A file is missing, unreadable or of no use.
    """
    return _loaded(_hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)), tls)


def public_context() -> ssl.SSLContext:
    """Make the context for calls of servers that have nothing to do with ``tls``, such as mail.

    The operating system's authorities vouch for it, and this node shows none of its own.
    """
    return _hardened(ssl.create_default_context())


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _loaded(context: ssl.SSLContext, tls: TlsSettings) -> ssl.SSLContext:
    # A peer's own certificate among the authorities vouches for that peer and nobody else.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for path in (tls.certificate, tls.key, tls.authorities):
        read_pem(path)
    password = tls.key_password.get_secret_value() if tls.key_password is not None else ""
    try:
        # Without an answer to its question for a password OpenSSL would ask at the terminal.
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


def read_pem(path: Path) -> str:
    """Return the text of a file that ``tls`` names; raises ``ConfigurationError`` without it."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}): correct `tls` in node.yaml, or the file's"
            " owner."
        ) from error


def no_certificate(path: Path) -> str:
    """Return the sentence about a file without a certificate."""
    return f"{path} holds no readable certificate: it must be a PEM file."
