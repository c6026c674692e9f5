"""Denoising of a series: from received files to durable derived files."""
