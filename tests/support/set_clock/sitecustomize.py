"""A wall clock that a test sets, in every process that has this folder on its PYTHONPATH.

The file that TEST_CLOCK names holds the seconds by which it is ahead.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

_CLOCK = Path(os.environ["TEST_CLOCK"])
_real_time, _real_datetime = time.time, datetime.datetime


def _ahead() -> float:
    return float(_CLOCK.read_text(encoding="ascii"))


class _AnyDatetime(type):
    """Values made before and after count alike."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _real_datetime)


class _SetDatetime(_real_datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _real_datetime.now(tz) + datetime.timedelta(seconds=_ahead())


time.time = lambda: _real_time() + _ahead()
datetime.datetime = _SetDatetime  # type: ignore[misc]
