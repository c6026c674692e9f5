"""What the acceptor serves: SOP classes, transfer syntaxes, and who handles their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.dimse.command import Command
from dicom_node.dimse.proposal import AcceptedContext
from dicom_node.errors import UnreadableFile

MAX_DATA_SET_BYTES = 16 << 20
"""Of a request that is no image: a storage commitment for some ten thousand images."""


@dataclass(frozen=True)
class Caller:
    """Who asked for the association."""

    ae_title: str
    called_ae_title: str
    host: str


@dataclass(frozen=True)
class Request:
    """A DIMSE request, whole.

    Attributes:
        context: The presentation context it came under.
        data: Its data set, encoded; empty when there is none.
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
        """Of an N-ACTION."""
        return self.command.action_type

    @property
    def event_type(self) -> int | None:
        """Of an N-EVENT-REPORT."""
        return self.command.event_type

    def dataset(self) -> Dataset:
        """The data set.

        Raises:
            UnreadableFile: It cannot be read.
        """
        syntax = UID(self.context.transfer_syntax)
        try:
            return decode(
                BytesIO(self.data), syntax.is_implicit_VR, syntax.is_little_endian,
                syntax.is_deflated,
            )  # fmt: skip
        except Exception as error:  # a damaged data set breaks its reader in any way
            raise UnreadableFile("the data set of the request cannot be read.") from error


Handler = Callable[[Request], int]
"""Returns the DIMSE status to answer with (PS3.7, annex C)."""


@dataclass(frozen=True)
class Service:
    """A SOP class that is served, besides Storage and Verification.

    Attributes:
        handlers: By command field of the request.
        scu_role: Whether a peer may be its user, if it negotiates roles (PS3.7, D.3.3.4).
        scp_role: Whether a peer may be its provider.
    """

    sop_class_uid: str
    transfer_syntaxes: Sequence[str]
    handlers: Mapping[int, Handler]
    scu_role: bool | None = None
    scp_role: bool | None = None

    def context(self) -> PresentationContext:
        """What negotiation compares a proposal with."""
        context = build_context(self.sop_class_uid, list(self.transfer_syntaxes))
        context.scu_role, context.scp_role = self.scu_role, self.scp_role
        return context
