"""Denoising methods, one per module; each maps HU to HU."""
