"""Exposures that the configuration or file permissions leave, each as a message with its remedy.

The node works with all of them, so nothing is refused: `check` warns, and a starting node logs
them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url

from dicom_node.settings import Settings, WebPeerSettings, holds_secrets

OTHERS = stat.S_IRWXO
GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def readable_files(settings: Settings) -> Iterator[str]:
    """Report images, ledger, audit messages and keys that other users can read."""
    wanted, mask = ("go", GROUP_AND_OTHERS)
    if settings.storage_access == "group":
        wanted, mask = ("o", OTHERS)
    found = [path for path in _private_paths(settings.storage) if _open_to(path, mask)]
    if found:
        names = ", ".join(path.name for path in found)
        yield (
            f"Other users of this machine can read {names} in {settings.storage}, and with it"
            f" images of patients: run `chmod -R {wanted}-rwx {settings.storage}`."
        )
    for path in _single_files(settings):
        if _open_to(path, mask):
            yield f"Other users of this machine can read {path}: run `chmod {wanted}-rwx {path}`."


def readable_secrets(config: Path) -> Iterator[str]:
    """Report a configuration file with passwords that other users can read."""
    if _open_to(config, OTHERS) and holds_secrets(config):
        yield (
            f"Other users of this machine can read {config}, which holds a password or token: run"
            f" `chmod o-rwx {config}`, or write ${{NAME}} there and take it from the environment."
        )


def open_listeners(settings: Settings) -> Iterator[str]:
    """Report that anybody may send images to this node, or read its status page."""
    listen, accept, web = settings.listen, settings.accept, settings.web
    restricted = listen.tls or accept.calling or accept.hosts
    if not restricted and not is_loopback(listen.host):
        yield (
            f"Anybody who reaches {listen.host}:{listen.port} may send images, under any AE title"
            " and from any address: list the senders in `accept.calling` and their addresses in"
            " `accept.hosts`, or require certificates by `listen.tls`."
        )
    if web is not None and not is_loopback(web.host):
        yield (
            f"The status page on {web.host}:{web.port} requires no password: set `web.host` to"
            " 127.0.0.1 and put a web server in front of it, or restrict access by a firewall."
        )


def plain_secrets(settings: Settings) -> Iterator[str]:
    """Report passwords and tokens that go over a network without encryption."""
    for peer in settings.peers:
        secret = isinstance(peer, WebPeerSettings) and (peer.token or peer.password)
        if isinstance(peer, WebPeerSettings) and secret and _is_plain(peer.url):
            yield (
                f"The token or password for {peer.name} goes over the network unencrypted: use a"
                " `url` that begins with https://."
            )
    email, webhook = settings.notify.email, settings.notify.webhook
    if email is not None and email.password and not (email.starttls or is_loopback(email.host)):
        yield (
            "The password of `notify.email` goes over the network unencrypted: set `starttls: true`"
            " there."
        )
    if webhook is not None and webhook.token and _is_plain(webhook.url):
        yield (
            "The token of `notify.webhook` goes over the network unencrypted: use a `url` that"
            " begins with https://."
        )


def exposures(settings: Settings) -> Iterator[str]:
    """Report all exposures of the settings, for the log of a starting node."""
    yield from readable_files(settings)
    yield from open_listeners(settings)
    yield from plain_secrets(settings)


def is_loopback(host: str) -> bool:
    """Whether a configured host is the loopback interface."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _private_paths(storage: Path) -> list[Path]:
    """List the storage folder, unless its own permissions keep others out."""
    if not _open_to(storage, GROUP_AND_OTHERS):
        return []
    return sorted(storage.iterdir())


def _single_files(settings: Settings) -> Iterator[Path]:
    """Yield private files outside the storage folder."""
    url = make_url(settings.database)
    named = [settings.audit.file, settings.tls.key if settings.tls is not None else None]
    if url.get_backend_name() == "sqlite" and url.database:
        named.append(Path(url.database))
    for path in named:
        if path is not None and settings.storage not in path.parents:
            yield path


def _open_to(path: Path, mask: int) -> bool:
    try:
        return bool(path.stat().st_mode & mask)
    except OSError:  # missing, or hidden from this user
        return False


def _is_plain(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
