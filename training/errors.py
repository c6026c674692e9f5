"""Exceptions of training; each message is one sentence for the user."""

from __future__ import annotations


class TrainingError(Exception):
    """The work failed; ``man-train`` exits with code 1."""


class RecipeError(TrainingError):
    """The recipe or the command line is invalid; ``man-train`` exits with code 2."""
