"""Command line ``man-train``.

Exit codes: 0 done, 1 the work failed, 2 wrong use.
"""

from training.cli.entry import main

__all__ = ["main"]
