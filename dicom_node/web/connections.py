"""Connections of the web server under limits: nobody holds a place without asking for something.

uvicorn waits for ever for the rest of a request and counts who waits like who asks, so that a few
dozen half requests would keep everybody out.
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
    """What one client, and all together, may take.

    Attributes:
        max_connections: At a time; a new one takes the place of one that has not asked yet.
        request_seconds: For a whole request, from its connection or from the answer before it.
        connection_seconds: For a connection with all that goes over it.
    """

    max_connections: int = 64
    request_seconds: float = 10.0
    connection_seconds: float = 120.0


DEFAULT_LIMITS = Limits()


class LimitedConnection(H11Protocol):
    """One connection of a client, as uvicorn serves it, with a deadline for each request.

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
        """When the connection was made, on the event loop's clock."""
        return self._made_at

    @property
    def address(self) -> str:
        """The client's address."""
        return self.client[0] if self.client else ""

    @property
    def waits(self) -> bool:
        """Whether a whole request has yet to come."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client, in place of another if need be."""
        super().connection_made(transport)
        self._watch()
        if (victim := superfluous(self._open(), self._limits.max_connections)) is not None:
            victim.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, again for a limited time."""
        self._watch()
        super().on_response_complete()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._limits.request_seconds, self._look)

    def _look(self) -> None:
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


def superfluous(
    connections: Iterable[LimitedConnection], max_connections: int
) -> LimitedConnection | None:
    """Choose whose place is needed: of the address that holds most, who has waited longest."""
    every = list(connections)
    held = Counter(one.address for one in every)
    waiting = [one for one in every if one.waits]
    if len(every) <= max_connections or not waiting:
        return None
    return max(waiting, key=lambda one: (held[one.address], -one.made_at))
