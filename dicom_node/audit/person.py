"""The person at the command line, as an audit message names who acted."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import replace
from pathlib import Path

from dicom_node.audit.message import Participant

LOGIN_FILE = Path("/proc/self/loginuid")
"""Who logged in, as the kernel remembers it across `su` and `sudo`."""

NOBODY = 0xFFFFFFFF
"""A process that no login began has this number there."""


def person() -> Participant:
    """Make the participant for whoever runs this process: the login, and the user it acts as."""
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
    return None if number == NOBODY else number


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
