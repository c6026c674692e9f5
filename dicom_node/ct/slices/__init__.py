"""Positions of the slices of a series: order, spacing, gaps, phases, completeness."""
