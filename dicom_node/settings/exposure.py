"""Doors that the configuration or the disk leaves open, each in a sentence that says what to do.

The node works with all of them, so nothing is refused: `check` warns, and a node that starts writes
them into its log.
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
    """Sentences on images, ledger, audit messages and keys that other users can read."""
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
    """A sentence on a configuration with passwords in it that other users can read."""
    if _open_to(config, OTHERS) and holds_secrets(config):
        yield (
            f"Other users of this machine can read {config}, which holds a password or token: run"
            f" `chmod o-rwx {config}`, or write ${{NAME}} there and take it from the environment."
        )


def open_door(settings: Settings) -> Iterator[str]:
    """Sentences on who may send images to this node, or look at its page, without being asked."""
    listen, accept, web = settings.listen, settings.accept, settings.web
    restricted = listen.tls or accept.calling or accept.hosts
    if not restricted and not is_loopback(listen.host):
        yield (
            f"Whoever reaches {listen.host}:{listen.port} may send images, under any AE title and"
            " from any address: name the senders in `accept.calling` and their addresses in"
            " `accept.hosts`, or ask for certificates by `listen.tls`."
        )
    if web is not None and not is_loopback(web.host):
        yield (
            f"The status page on {web.host}:{web.port} asks nobody for a password: let `web.host`"
            " be 127.0.0.1 with a web server before it, or let a firewall say who may come."
        )


def plain_secrets(settings: Settings) -> Iterator[str]:
    """Sentences on passwords and tokens that go over a network without encryption."""
    for peer in settings.peers:
        secret = isinstance(peer, WebPeerSettings) and (peer.token or peer.password)
        if isinstance(peer, WebPeerSettings) and secret and _is_plain(peer.url):
            yield (
                f"The token or password for {peer.name} goes over the network unencrypted: let its"
                " `url` begin with https://."
            )
    email, webhook = settings.notify.email, settings.notify.webhook
    if email is not None and email.password and not (email.starttls or is_loopback(email.host)):
        yield (
            "The password of `notify.email` goes over the network unencrypted: set `starttls: true`"
            " there."
        )
    if webhook is not None and webhook.token and _is_plain(webhook.url):
        yield (
            "The token of `notify.webhook` goes over the network unencrypted: let its `url` begin"
            " with https://."
        )


def every_exposure(settings: Settings) -> Iterator[str]:
    """All of these, for the log of a node that starts."""
    yield from readable_files(settings)
    yield from open_door(settings)
    yield from plain_secrets(settings)


def is_loopback(host: str) -> bool:
    """Whether a host as the configuration names it is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _private_paths(storage: Path) -> list[Path]:
    """Everything in the storage folder, unless the folder itself keeps others out."""
    if not _open_to(storage, GROUP_AND_OTHERS):
        return []
    return sorted(storage.iterdir())


def _single_files(settings: Settings) -> Iterator[Path]:
    """Private files that may lie elsewhere than in the storage folder."""
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
    except OSError:  # not there, or hidden from this user
        return False


def _is_plain(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")
