"""Keep with a job that its dose gain follows from the noise reference, and how a gain follows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job", sa.Column("auto_gain", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("job", sa.Column("gain_basis", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("job", "gain_basis")
    op.drop_column("job", "auto_gain")
