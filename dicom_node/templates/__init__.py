"""Commented configuration files that `dicom-node init` writes."""
