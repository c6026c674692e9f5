"""The shipped weights and their cards; data, no code."""
