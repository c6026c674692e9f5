"""Limits of the health check: for how long owed work may stand still."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.settings.sections import Section

Limit = Annotated[float, Field(gt=0.0)]


class HealthSettings(Section):
    """Ages above which waiting work makes the node unhealthy, in seconds.

    Attributes:
        arriving_seconds: Of a series that is not complete; at least ``completion.at_most_seconds``
            and ten minutes count.
        denoise_seconds: Of a job without results.
        off_peak_seconds: The same for a job that runs in the quiet hours only.
        send_seconds: Of results that a destination has not got.
        commitment_seconds: Of a storage commitment, asked for or owed, without an answer.
        paused_seconds: Of an operator's pause.
        door_seconds: How long senders may go on being turned away because every place is held.
        sweep_seconds: How late a sweep of the housekeeping may be.
        part_seconds: Silence of the sender or of the housekeeping.
        receiver_seconds: Silence of the receiver.
        worker_seconds: Silence of the worker, also while it loads a model.
    """

    arriving_seconds: Limit = 7200.0
    denoise_seconds: Limit = 3600.0
    off_peak_seconds: Limit = 172_800.0
    send_seconds: Limit = 1800.0
    commitment_seconds: Limit = 7200.0
    paused_seconds: Limit = 14_400.0
    door_seconds: Limit = 300.0
    sweep_seconds: Limit = 120.0
    part_seconds: Limit = 300.0
    receiver_seconds: Limit = 60.0
    worker_seconds: Limit = 900.0
