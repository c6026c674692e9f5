"""Puts this folder on the import path: a test says ``from ct_factory import make_series``."""

from hypothesis import settings

# A loaded machine is slow, not wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
