"""Encoded data sets and files (PS3.5, PS3.10), read within bounds: what comes from outside is not trusted."""
