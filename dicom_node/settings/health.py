"""Settings under ``health``: limits of the health check on waiting work and silent parts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.settings.sections import Section

Limit = Annotated[float, Field(gt=0.0)]


class HealthSettings(Section):
    """Ages in seconds above which the health check reports waiting work and silent parts.

    Attributes:
        arriving_seconds: An incomplete series; at least ten minutes more than
            ``completion.at_most_seconds``.
        denoise_seconds: A job without results.
        off_peak_seconds: The same for a job that runs in the off-peak hours only.
        send_seconds: Results that a destination has not received.
        commitment_seconds: A storage commitment, requested or promised, without a result.
        paused_seconds: A pause set by an operator.
        door_seconds: A period in which senders are rejected because all associations are in use.
        sweep_seconds: Delay of a housekeeping sweep.
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
