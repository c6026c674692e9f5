"""The ledger's tables. A change here goes with a migration in ``migrations/versions``.

Times are seconds since 1970 (UTC). No column holds who a patient is: series and images are known
by their UIDs only.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dicom_node.ledger.states import DeliveryState, JobState, SeriesState

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names of their own, so that a later migration can address them."""


class Base(DeclarativeBase):
    """All tables of the ledger."""

    metadata = MetaData(naming_convention=NAMING)


class SeriesRow(Base):
    """One received series; ``generation`` counts how often slices came after it was complete."""

    __tablename__ = "series"
    __table_args__ = (Index(None, "state", "last_arrival_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(unique=True)
    study_uid: Mapped[str]
    state: Mapped[str] = mapped_column(default=SeriesState.ARRIVING)
    generation: Mapped[int] = mapped_column(default=1)
    source_ae: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    first_arrival_at: Mapped[float]
    last_arrival_at: Mapped[float]

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
    once the derived files are durable. ``owner`` and ``lease_until`` are set while a process works.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("series_id", "generation", "digest"),
        Index(None, "state", "next_at", "id"),
        CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease_has_owner"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    generation: Mapped[int]
    digest: Mapped[str]
    token: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default=JobState.QUEUED)
    model: Mapped[str]
    strength: Mapped[float]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    reason: Mapped[str] = mapped_column(default="")
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    derived_at: Mapped[float | None]
    derived_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float]
    updated_at: Mapped[float]

    series: Mapped[SeriesRow] = relationship()
    deliveries: Mapped[list[DeliveryRow]] = relationship(order_by="DeliveryRow.id")


class DeliveryRow(Base):
    """One job's results on their way to one destination."""

    __tablename__ = "delivery"
    __table_args__ = (UniqueConstraint("job_id", "destination"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    destination: Mapped[str]
    state: Mapped[str] = mapped_column(default=DeliveryState.PENDING)
    reason: Mapped[str] = mapped_column(default="")
    confirmed_at: Mapped[float | None]

    sent: Mapped[list[SentRow]] = relationship()


class SentRow(Base):
    """One derived image that one destination has confirmed."""

    __tablename__ = "sent"

    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]
    at: Mapped[float]


class HistoryRow(Base):
    """One transition of a series or a job. Rows are added, never changed or deleted."""

    __tablename__ = "history"
    __table_args__ = (Index(None, "job_id"), Index(None, "series_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    before: Mapped[str]
    after: Mapped[str]
    owner: Mapped[str]
    reason: Mapped[str]
