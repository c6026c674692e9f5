"""Curve of a model: quality, noise left and detectability over dose gain and strength."""
