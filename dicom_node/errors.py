"""Exceptions of the node, sorted by who must act.

::

    NodeError                      one message for the user: what, where, what to do
    ├── ConfigurationError         wrong settings or wrong use of a command
    ├── InputError                 the input cannot be processed; the job fails permanently
    │   ├── UnreadableFile         not DICOM, truncated, or pixels that cannot be decoded here
    │   ├── NotForUs               readable, but not an original axial CT series: skip it
    │   └── IncompleteSeries       slices are missing: send them and the series can be processed
    ├── PeerError                  another DICOM system refused, failed or was unreachable
    ├── StorageError               this node's disk; transient, as space may be freed
    ├── ModelUnavailable           the model cannot be loaded here
    ├── ImplausibleResult          the guard keeps a result back (``denoising.report``)
    └── DeviceFault                the GPU failed; a new process may use it again

A message never contains a patient's name or identifier: it refers to files by name and to images by
instance number.
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """A failure that is explained to the user in one message.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
        transient: Whether a later attempt can succeed.
        counted: Whether each further attempt uses up one of `retry.attempts`.
    """

    exit_code: ClassVar[int] = 1
    transient: bool = False
    counted: bool = False


class ConfigurationError(NodeError):
    """The configuration or the usage of a command is wrong."""

    exit_code = 2


class InputError(NodeError):
    """The input cannot be processed; a further attempt does not help."""


class UnreadableFile(InputError):  # noqa: N818 - the name says what the file is
    """A file is not DICOM, is truncated, or has pixels that cannot be decoded here."""


class NotForUs(InputError):  # noqa: N818 - the name says what the series is
    """A readable series that this node must not process: not an original axial CT series."""


class IncompleteSeries(InputError):  # noqa: N818 - the name says what the series is
    """Slices of the series are missing."""


class PeerError(NodeError):
    """Another DICOM system refused, failed or could not be reached.

    An unreachable peer is transient and not counted; one that answers and fails is counted.
    """

    def __init__(self, message: str, *, transient: bool, counted: bool = False) -> None:
        super().__init__(message)
        self.transient, self.counted = transient, counted


class StorageError(NodeError):
    """This node's storage is full or not writable; transient, as space may be freed."""

    transient = True


class ModelUnavailable(NodeError):  # noqa: N818 - the name says what the model is
    """The model named in the configuration cannot be loaded here.

    A command does not start then (exit code 2); in a running node one job fails (1).
    """

    exit_code = 2


class DeviceFault(NodeError):  # noqa: N818 - the name says what failed
    """The device failed, or has no memory for this process; a new one may use it again."""

    transient = True
