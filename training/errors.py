"""Errors of fitting; the message is one sentence for the user."""

from __future__ import annotations


class TrainingError(Exception):
    """The work failed; ``man-train`` ends with exit code 1."""


class RecipeError(TrainingError):
    """The recipe or the command line is wrong; ``man-train`` ends with exit code 2."""
