"""Keep the dose gain that is ordered with a job; NULL: the default of the model's card."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("dose_gain", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "dose_gain")
