"""Deliveries with leases of their own, storage commitment, pauses, priorities, known gaps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE FUNCTION history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the history is append-only'; END $$
"""


def upgrade() -> None:
    _series()
    _job()
    _delivery()
    _sent()
    op.add_column("history", _text("destination"))
    _commitment()
    _commitment_request()
    _pause()
    _carry_over()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(APPEND_ONLY)
        op.execute(
            "CREATE TRIGGER history_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON history"
            " EXECUTE FUNCTION history_is_append_only()"
        )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the copy made before this migration")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=str(default))


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=False, server_default="0")


def _moment(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=True)


def _owner() -> sa.Column[str]:
    return sa.Column("owner", sa.String(), nullable=True)


def _id(table: str) -> tuple[sa.Column[int], sa.PrimaryKeyConstraint]:
    column = sa.Column("id", sa.Integer(), nullable=False)
    return column, sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _series() -> None:
    for column in (_text("gap"), _text("rule"), _real("began_at")):
        op.add_column("series", column)


def _job() -> None:
    op.drop_index("ix_job_state_next_at_id", "job")
    for column in (
        _number("since_generation"),
        _number("priority", 1),
        _text("rule"),
        _text("gap"),
        _number("waits"),
        _moment("notified_at"),
    ):
        op.add_column("job", column)
    op.create_index(
        "ix_job_state_priority_next_at_id", "job", ["state", "priority", "next_at", "id"]
    )


def _delivery() -> None:
    for column in (
        _number("attempts"),
        _number("waits"),
        _real("next_at"),
        _owner(),
        _moment("lease_until"),
        _real("updated_at"),
    ):
        op.add_column("delivery", column)
    op.create_index(
        "ix_delivery_destination_state_next_at", "delivery", ["destination", "state", "next_at"]
    )


def _sent() -> None:
    op.add_column("sent", _text("sop_uid"))
    op.add_column("sent", _moment("committed_at"))


def _commitment() -> None:
    op.create_table(
        "commitment",
        *_id("commitment"),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        _moment("answered_at"),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_commitment_delivery_id"),
        sa.UniqueConstraint("transaction_uid", name="uq_commitment_transaction_uid"),
    )
    op.create_index("ix_commitment_delivery_id", "commitment", ["delivery_id"])


def _commitment_request() -> None:
    op.create_table(
        "commitment_request",
        *_id("commitment_request"),
        sa.Column("transaction_uid", sa.String(), nullable=False),
        sa.Column("requester", sa.String(), nullable=False),
        sa.Column("items", sa.String(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _owner(),
        _moment("lease_until"),
        _moment("reported_at"),
        sa.UniqueConstraint(
            "transaction_uid", "requester", name="uq_commitment_request_transaction_uid_requester"
        ),
    )
    op.create_index(
        "ix_commitment_request_reported_at_next_at",
        "commitment_request",
        ["reported_at", "next_at"],
    )


def _pause() -> None:
    op.create_table(
        "pause",
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stage", name="pk_pause"),
    )


def _carry_over() -> None:
    """Bring what is under way into the new order: a delivery, not its job, is sent and retried.

    Images noted as sent without their UID are sent once more where their delivery is open; a
    destination knows them by the same UIDs and bytes.
    """
    statements = """
    UPDATE series SET began_at = first_arrival_at;
    UPDATE delivery SET updated_at = (SELECT updated_at FROM job WHERE job.id = job_id),
        next_at = (SELECT next_at FROM job WHERE job.id = job_id);
    UPDATE delivery SET attempts = (SELECT attempts FROM job WHERE job.id = job_id)
        WHERE state = 'PENDING' AND job_id IN
            (SELECT id FROM job WHERE derived_at IS NOT NULL AND state = 'RETRY_WAIT');
    UPDATE delivery SET state = 'REFUSED',
        reason = (SELECT reason FROM job WHERE job.id = job_id)
        WHERE state = 'PENDING' AND job_id IN
            (SELECT id FROM job WHERE derived_at IS NOT NULL AND state = 'FAILED');
    DELETE FROM sent WHERE delivery_id IN (SELECT id FROM delivery WHERE state != 'CONFIRMED');
    INSERT INTO history (at, series_id, job_id, destination, before, after, owner, reason)
        SELECT updated_at, series_id, id, '', 'SENDING', 'DERIVED', owner, 'a new version began'
        FROM job WHERE state = 'SENDING';
    UPDATE job SET state = 'DERIVED', owner = NULL, lease_until = NULL WHERE state = 'SENDING'
    """
    for statement in statements.split(";"):
        op.execute(statement)
