"""The receiver's listening socket, and a clear error when its address cannot be used."""

from __future__ import annotations

import errno
import socket

from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings

BACKLOG = 128


def listen(settings: Settings) -> socket.socket:
    """Open a socket that listens on the configured address.

    Raises:
        ConfigurationError: The address or port cannot be used.
    """
    host, port = settings.listen.host, settings.listen.port
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise _cannot_listen(error, host, port) from error
    return listener


def _cannot_listen(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        reason = f"Port {port} on {host} is in use: stop the program that holds it"
    elif error.errno == errno.EACCES:
        reason = f"Port {port} on {host} may not be opened by this user: use one above 1023"
    elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        reason = f"{host} is not an address of this machine: use one that is"
    else:
        reason = f"The node cannot listen on {host}:{port} ({error.strerror}): free the address"
    return ConfigurationError(f"{reason}, or change `listen` in node.yaml.")
