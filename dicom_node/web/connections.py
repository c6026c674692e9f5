"""Connection limits of the web server: idle clients cannot exhaust it.

uvicorn waits without limit for the rest of a request and counts incomplete requests like others, so
that a few dozen of them would block all clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Limits:
    """Limits on connections.

    Attributes:
        max_connections: Number at a time; a further one replaces one that waits for its request.
        request_seconds: Time for a complete request, from connecting or from the last response.
        connection_seconds: Total time of a connection.
    """

    max_connections: int = 64
    request_seconds: float = 10.0
    connection_seconds: float = 120.0


DEFAULT_LIMITS = Limits()


class LimitedConnection(H11Protocol):
    """An HTTP connection of uvicorn with a deadline for each request.

    Args:
        limits: Deadlines and the number of connections.
    """

    def __init__(self, *arguments: Any, limits: Limits = DEFAULT_LIMITS, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._made_at = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def made_at(self) -> float:
        """Time of connecting, on the event loop's clock."""
        return self._made_at

    @property
    def address(self) -> str:
        """The client's address."""
        return self.client[0] if self.client else ""

    @property
    def waits(self) -> bool:
        """Whether no complete request has arrived."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client, replacing another one if necessary."""
        super().connection_made(transport)
        self._watch()
        if (victim := excess_connection(self._open(), self._limits.max_connections)) is not None:
            victim.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline of a client that has gone."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Set the deadline of the next request."""
        self._watch()
        super().on_response_complete()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._limits.request_seconds, self._check)

    def _check(self) -> None:
        age = self.loop.time() - self._made_at
        if self.waits or age >= self._limits.connection_seconds:
            self.transport.abort()
        else:
            self._watch()

    def _open(self) -> list[LimitedConnection]:
        return [
            one
            for one in self.connections
            if isinstance(one, LimitedConnection) and not one.transport.is_closing()
        ]


def excess_connection(
    connections: Iterable[LimitedConnection], max_connections: int
) -> LimitedConnection | None:
    """Choose the connection to close: of the address with most, the one that waits longest."""
    every = list(connections)
    held = Counter(one.address for one in every)
    waiting = [one for one in every if one.waits]
    if len(every) <= max_connections or not waiting:
        return None
    return max(waiting, key=lambda one: (held[one.address], -one.made_at))
