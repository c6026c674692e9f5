"""The first ledger: series, instances, jobs, deliveries and the history of every transition."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER history_no_{verb} BEFORE {verb} ON history
BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END
"""


def upgrade() -> None:
    _series()
    _instance()
    _job()
    _delivery()
    _sent()
    _history()


def downgrade() -> None:
    for table in ("history", "sent", "delivery", "job", "instance", "series"):
        op.drop_table(table)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _real(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _id(table: str) -> tuple[sa.Column[int], sa.PrimaryKeyConstraint]:
    return _number("id"), sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def _series() -> None:
    op.create_table(
        "series",
        *_id("series"),
        _text("series_uid"),
        _text("study_uid"),
        _text("state"),
        _number("generation"),
        _text("source_ae"),
        _text("reason"),
        _real("first_arrival_at"),
        _real("last_arrival_at"),
        sa.UniqueConstraint("series_uid", name="uq_series_series_uid"),
    )
    op.create_index("ix_series_state_last_arrival_at", "series", ["state", "last_arrival_at"])


def _instance() -> None:
    op.create_table(
        "instance",
        *_id("instance"),
        _number("series_id"),
        _text("sop_uid"),
        _text("sha256"),
        _text("name"),
        _number("size"),
        _number("generation"),
        sa.Column("purged", sa.Boolean(), nullable=False),
        _real("received_at"),
        _key("instance", "series_id", "series"),
        sa.UniqueConstraint("series_id", "sop_uid", name="uq_instance_series_id_sop_uid"),
    )


def _job() -> None:
    op.create_table(
        "job",
        *_id("job"),
        _number("series_id"),
        _number("generation"),
        _text("digest"),
        _text("token"),
        _text("state"),
        _text("model"),
        _real("strength"),
        _number("attempts"),
        _real("next_at"),
        _text("reason"),
        sa.Column("owner", sa.String(), nullable=True),
        _real("lease_until", nullable=True),
        _real("derived_at", nullable=True),
        _number("derived_count"),
        _real("created_at"),
        _real("updated_at"),
        sa.CheckConstraint(
            "(owner IS NULL) = (lease_until IS NULL)", name="ck_job_lease_has_owner"
        ),
        _key("job", "series_id", "series"),
        sa.UniqueConstraint(
            "series_id", "generation", "digest", name="uq_job_series_id_generation_digest"
        ),
        sa.UniqueConstraint("token", name="uq_job_token"),
    )
    op.create_index("ix_job_state_next_at_id", "job", ["state", "next_at", "id"])


def _delivery() -> None:
    op.create_table(
        "delivery",
        *_id("delivery"),
        _number("job_id"),
        _text("destination"),
        _text("state"),
        _text("reason"),
        _real("confirmed_at", nullable=True),
        _key("delivery", "job_id", "job"),
        sa.UniqueConstraint("job_id", "destination", name="uq_delivery_job_id_destination"),
    )


def _sent() -> None:
    op.create_table(
        "sent",
        _number("delivery_id"),
        _text("name"),
        _number("status"),
        _real("at"),
        _key("sent", "delivery_id", "delivery"),
        sa.PrimaryKeyConstraint("delivery_id", "name", name="pk_sent"),
    )


def _history() -> None:
    op.create_table(
        "history",
        *_id("history"),
        _real("at"),
        _number("series_id"),
        sa.Column("job_id", sa.Integer(), nullable=True),
        _text("before"),
        _text("after"),
        _text("owner"),
        _text("reason"),
        _key("history", "series_id", "series"),
        _key("history", "job_id", "job"),
    )
    op.create_index("ix_history_job_id", "history", ["job_id"])
    op.create_index("ix_history_series_id", "history", ["series_id"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(APPEND_ONLY.format(verb=verb))
