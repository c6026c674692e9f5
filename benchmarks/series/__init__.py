"""Benchmark of a whole series: from folder to folder, and through the node."""
