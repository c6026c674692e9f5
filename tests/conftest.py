"""Puts this folder on the import path: a test says ``from ct_factory import make_series``."""
