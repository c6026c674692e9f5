"""Count the processes that a job or the inspection of a series has killed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("series", "job"):
        op.add_column(table, sa.Column("deaths", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for table in ("series", "job"):
        op.drop_column(table, "deaths")
