"""Alembic migrations of the ledger, run by the program itself whenever it opens the ledger."""
