"""Exceptions of the core; each message is one sentence for the user."""


class ModelError(ValueError):
    """A model cannot be used: unknown, unreadable, changed on disk, or no such device."""


class Stopped(Exception):  # noqa: N818 - not a failure: the caller asked for it
    """The caller asked to stop before the series was finished."""
