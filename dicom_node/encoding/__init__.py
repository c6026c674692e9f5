"""Encoded data sets and files (PS3.5, PS3.10), read within bounds: their sender is not trusted."""
