"""Choice of the device by its name."""

from __future__ import annotations

import torch

from man_core import ModelError
from man_core.device import choose_device
from training.errors import TrainingError


def device_named(name: str) -> torch.device:
    """Return the device of ``--device``: auto, cpu, cuda or cuda:N.

    Raises:
        TrainingError: There is no such device on this machine.
    """
    try:
        return choose_device(name)
    except ModelError as error:
        raise TrainingError(str(error)) from error
