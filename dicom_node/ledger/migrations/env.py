"""Alembic's entry point; :mod:`dicom_node.ledger.engine` hands over an open transaction."""

from __future__ import annotations

from alembic import context

from dicom_node.ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
