"""Tables of the ledger. A change here needs a migration in ``migrations/versions``.

Times are seconds since 1970 (UTC). No column holds who a patient is: series and images are known
by their UIDs only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dicom_node.ledger.states import DeliveryState, JobState, SeriesState

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of constraints, so that a later migration can address them."""


class Real(TypeDecorator[float]):
    """A double that is read as a float; SQLite returns a whole one from RETURNING as an integer."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> float | None:
        """See :class:`sqlalchemy.TypeDecorator`."""
        return None if value is None else float(value)


class Base(DeclarativeBase):
    """All tables of the ledger."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {float: Real}  # noqa: RUF012 - SQLAlchemy's own way of declaring it


class SeriesRow(Base):
    """One received series; ``generation`` grows when slices come after it was complete.

    ``began_at`` is the first arrival of the present generation. ``gap`` names the missing slices,
    empty where none is known to be. ``rule`` decided about the series. ``deaths``
    counts the processes that its inspection has killed.
    """

    __tablename__ = "series"
    __table_args__ = (Index(None, "state", "last_arrival_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(unique=True)
    study_uid: Mapped[str]
    state: Mapped[str] = mapped_column(default=SeriesState.ARRIVING)
    generation: Mapped[int] = mapped_column(default=1)
    source_ae: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    gap: Mapped[str] = mapped_column(default="")
    rule: Mapped[str] = mapped_column(default="")
    first_arrival_at: Mapped[float]
    began_at: Mapped[float]
    last_arrival_at: Mapped[float]
    deaths: Mapped[int] = mapped_column(default=0)

    instances: Mapped[list[InstanceRow]] = relationship(order_by="InstanceRow.id")


class InstanceRow(Base):
    """One received image; ``purged`` when retention has deleted its file."""

    __tablename__ = "instance"
    __table_args__ = (UniqueConstraint("series_id", "sop_uid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    sop_uid: Mapped[str]
    sha256: Mapped[str]
    name: Mapped[str]
    size: Mapped[int]
    generation: Mapped[int]
    purged: Mapped[bool] = mapped_column(default=False)
    received_at: Mapped[float]


class JobRow(Base):
    """The work on one generation of a series, from QUEUED to DONE.

    ``token`` names the job's folder in the outbox and is never used twice. ``derived_at`` is set
    once the derived files are durable. ``owner`` and ``lease_until`` are set while a process
    denoises. Images up to ``since_generation`` are the work of an earlier job. ``waits`` counts
    pauses for faults that are not the job's, such as a full disk; ``attempts`` all others.
    ``deaths`` counts the processes that the work has killed. ``dose_gain`` is NULL for the default
    of the model's card, or where ``target_noise_hu`` is wanted, or ``auto_gain``, and
    ``measured_gain`` follows from the series, as ``gain_basis`` tells.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("series_id", "generation", "digest"),
        Index(None, "state", "priority", "next_at", "id"),
        CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_has_owner"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    generation: Mapped[int]
    since_generation: Mapped[int] = mapped_column(default=0)
    digest: Mapped[str]
    token: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default=JobState.QUEUED)
    model: Mapped[str]
    strength: Mapped[float]
    dose_gain: Mapped[float | None]
    target_noise_hu: Mapped[float | None]
    auto_gain: Mapped[bool] = mapped_column(default=False)
    measured_gain: Mapped[float | None]
    gain_basis: Mapped[str] = mapped_column(default="")
    priority: Mapped[int] = mapped_column(default=1)
    rule: Mapped[str] = mapped_column(default="")
    gap: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    waits: Mapped[int] = mapped_column(default=0)
    deaths: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    reason: Mapped[str] = mapped_column(default="")
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    derived_at: Mapped[float | None]
    derived_count: Mapped[int] = mapped_column(default=0)
    notified_at: Mapped[float | None]
    created_at: Mapped[float]
    updated_at: Mapped[float]

    series: Mapped[SeriesRow] = relationship()
    deliveries: Mapped[list[DeliveryRow]] = relationship(
        order_by="DeliveryRow.id", back_populates="job"
    )


class DeliveryRow(Base):
    """The delivery of one job's results to one destination, the leased unit of sending.

    ``next_at`` is the next attempt of a PENDING one, and the deadline of the report for a
    COMMITTING one. ``waits`` counts pauses for faults that are not the images', such as a
    destination that is away; ``attempts`` all other claims.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("job_id", "destination"),
        Index(None, "destination", "state", "next_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    destination: Mapped[str]
    state: Mapped[str] = mapped_column(default=DeliveryState.PENDING)
    reason: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    waits: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    confirmed_at: Mapped[float | None]
    updated_at: Mapped[float]

    job: Mapped[JobRow] = relationship(back_populates="deliveries")


class SentRow(Base):
    """One derived image that one destination has stored, and when it committed to keep it."""

    __tablename__ = "sent"

    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sop_uid: Mapped[str]
    status: Mapped[int]
    at: Mapped[float]
    committed_at: Mapped[float | None]


class CommitmentRow(Base):
    """A request to a destination to commit to what it stored (PS3.4 annex J, this node as SCU)."""

    __tablename__ = "commitment"
    __table_args__ = (Index(None, "delivery_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(unique=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"))
    requested_at: Mapped[float]
    answered_at: Mapped[float | None]


class CommitmentRequestRow(Base):
    """A request of a peer that this node commit to what it holds (PS3.4 annex J, as SCP).

    ``items`` is a JSON list of pairs: SOP Class UID, SOP Instance UID.
    """

    __tablename__ = "commitment_request"
    __table_args__ = (
        UniqueConstraint("transaction_uid", "requester"),
        Index(None, "reported_at", "next_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction_uid: Mapped[str]
    requester: Mapped[str]
    items: Mapped[str]
    received_at: Mapped[float]
    next_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    reported_at: Mapped[float | None]


class IdentityRow(Base):
    """The one row that names the storage folder to which this ledger belongs."""

    __tablename__ = "identity"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[str]


class PauseRow(Base):
    """A stage in which no work is begun until an operator resumes it."""

    __tablename__ = "pause"

    stage: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[float]


class HistoryRow(Base):
    """One transition of a series, a job or, with ``destination``, a delivery; never changed."""

    __tablename__ = "history"
    __table_args__ = (Index(None, "job_id"), Index(None, "series_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    destination: Mapped[str] = mapped_column(default="")
    before: Mapped[str]
    after: Mapped[str]
    owner: Mapped[str]
    reason: Mapped[str]
