"""Checks of the product on a machine with a GPU: one short script, one JSON and one table."""
