"""Services of an acceptor: SOP classes, transfer syntaxes, and handlers of their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.dimse.command import Command
from dicom_node.dimse.proposal import AcceptedContext

MAX_DATA_SET_BYTES = 16 << 20
"""Longest data set of a request that carries no image: commitment to some ten thousand images."""


@dataclass(frozen=True)
class Caller:
    """The peer that requested the association."""

    ae_title: str
    called_ae_title: str
    host: str


@dataclass(frozen=True)
class Request:
    """A complete DIMSE request.

    Attributes:
        context: Its presentation context.
        data: Its data set, encoded; empty for none.
    """

    caller: Caller
    context: AcceptedContext
    command: Command
    data: bytes

    @property
    def sop_class_uid(self) -> str:
        """Affected or requested SOP class."""
        return self.command.affected_class or self.command.requested_class

    @property
    def sop_instance_uid(self) -> str:
        """Affected or requested SOP instance."""
        return self.command.affected_instance or self.command.requested_instance

    @property
    def action_type(self) -> int | None:
        """Action type of an N-ACTION."""
        return self.command.action_type

    @property
    def event_type(self) -> int | None:
        """Event type of an N-EVENT-REPORT."""
        return self.command.event_type


Handler = Callable[[Request], int]
"""Handler of a request; returns the DIMSE status to answer with (PS3.7, annex C)."""


@dataclass(frozen=True)
class Service:
    """A SOP class that is served, besides Storage and Verification.

    Attributes:
        handlers: Handlers by command field of the request.
        scu_role: Whether a peer may be its user, if it negotiates roles (PS3.7, D.3.3.4).
        scp_role: Whether a peer may be its provider.
    """

    sop_class_uid: str
    transfer_syntaxes: Sequence[str]
    handlers: Mapping[int, Handler]
    scu_role: bool | None = None
    scp_role: bool | None = None

    def context(self) -> PresentationContext:
        """The presentation context to compare proposals with."""
        context = build_context(self.sop_class_uid, list(self.transfer_syntaxes))
        context.scu_role, context.scp_role = self.scu_role, self.scp_role
        return context
