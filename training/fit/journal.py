"""Journal of a run: metrics.jsonl, pictures, and TensorBoard if installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from matplotlib.image import imsave
from torch import Tensor


class _Board(Protocol):
    def add_scalar(self, tag: str, value: float, step: int) -> object: ...
    def close(self) -> None: ...


class Journal:
    """Writes into the folder of a run; a resumed run appends to the same files."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lines = (run / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = _board(run)

    def write(self, kind: str, step: int, scalars: Mapping[str, float]) -> None:
        """Append a line to ``metrics.jsonl``: kind (``fit`` or ``validation``), step and values."""
        self._lines.write(json.dumps({"kind": kind, "step": step, **scalars}) + "\n")
        self._lines.flush()
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        """Write float [row, column] in [0, 1] to ``pictures/<name>-<step>.png``."""
        folder = self.run / "pictures"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-{step:08d}.png"
        imsave(path, pixels.detach().float().cpu().numpy(), cmap="gray", vmin=0.0, vmax=1.0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        if self._board:
            self._board.close()


def _board(run: Path) -> _Board | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `train` is not installed: metrics.jsonl holds the same
        return None
    board: _Board = SummaryWriter(str(run / "tensorboard"))
    return board
