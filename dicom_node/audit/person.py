"""Audit participant of the person at the command line."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import replace
from pathlib import Path

from dicom_node.audit.message import Participant

LOGIN_FILE = Path("/proc/self/loginuid")
"""Login user ID, which the kernel keeps across `su` and `sudo`."""

NO_LOGIN = 0xFFFFFFFF
"""Content of the file for a process without a login."""


def person() -> Participant:
    """Make the participant for the user of this process: login, and effective user."""
    acting = os.geteuid()
    login = _login()
    here = Participant(_name(acting if login is None else login), host=socket.gethostname())
    as_other = "" if login is None or login == acting else f"as {_name(acting)}"
    return replace(here, user_name=as_other, requestor=True)


def _login() -> int | None:
    try:
        number = int(LOGIN_FILE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if number == NO_LOGIN else number


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
