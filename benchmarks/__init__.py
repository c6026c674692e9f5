"""Benchmarks of the node against other programs, as ratios measured in one run."""
