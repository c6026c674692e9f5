"""Rates of the node against those of other programs, as ratios taken in one run."""
