"""Commands called within the process of the tests."""

from __future__ import annotations

import sys

import pytest

from training.cli import main


def man_train(*arguments: object) -> int:
    """The exit code of ``man-train ARGUMENTS``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["man-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)
