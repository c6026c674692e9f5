"""Derived CT images: denoised slices written back to DICOM, with their provenance."""
