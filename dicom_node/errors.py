"""Everything that can go wrong, sorted by who must act.

::

    NodeError                      one sentence for the user: what, where, what to do
    ├── ConfigurationError         wrong settings or wrong use of a command
    ├── InputError                 the data handed in cannot be processed; the job fails for good
    │   ├── UnreadableFile         not DICOM, cut off, or pixels that no decoder here reads
    │   ├── NotForUs               readable, but not an original axial CT series: skip it
    │   └── IncompleteSeries       slices are missing: send them and the series can be processed
    ├── PeerError                  another DICOM system refused, failed or was away
    ├── StorageError               this node's disk; passes when there is room again
    ├── ModelUnavailable           the model cannot be loaded here
    ├── ImplausibleResult          the guard keeps a result back (in ``ct.report``)
    └── DeviceFault                the GPU failed; a fresh process may use it again

A message never holds a patient's name or identifier: files are named by file name, images by their
instance number.
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Any failure that is explained to the user in one sentence.

    Attributes:
        exit_code: What a command that ends with this error returns to the shell.
        transient: Whether trying the same again later can succeed.
        counted: Whether each further try uses up one of `retry.attempts`.
    """

    exit_code: ClassVar[int] = 1
    transient: bool = False
    counted: bool = False


class ConfigurationError(NodeError):
    """The configuration, or the way a command was called, is wrong."""

    exit_code = 2


class InputError(NodeError):
    """The data handed in cannot be processed; trying again does not help."""


class UnreadableFile(InputError):  # noqa: N818 - the name says what the file is
    """A file is not DICOM, is cut off, or holds pixels that cannot be decoded here."""


class NotForUs(InputError):  # noqa: N818 - the name says what the series is
    """A readable series which this node must leave alone: not an original axial CT series."""


class IncompleteSeries(InputError):  # noqa: N818 - the name says what the series is
    """Slices of the series are missing."""


class PeerError(NodeError):
    """Another DICOM system refused, failed or could not be reached.

    One that is away is transient and not counted; one that is there and fails is counted.
    """

    def __init__(self, message: str, *, transient: bool, counted: bool = False) -> None:
        super().__init__(message)
        self.transient, self.counted = transient, counted


class StorageError(NodeError):
    """This node's storage is full or not writable; passes when there is room again."""

    transient = True


class ModelUnavailable(NodeError):  # noqa: N818 - the name says what the model is
    """The model named in the configuration cannot be loaded here.

    A command refuses to start with it (exit code 2); in a running node one job fails (1).
    """

    exit_code = 2


class DeviceFault(NodeError):  # noqa: N818 - the name says what failed
    """The device failed in mid-work, which leaves it unusable to this process for good."""

    transient = True
