"""Puts this folder on the import path: every test may say ``from ct_factory import make_series``."""
