"""The checks of ``dicom-node check``: one file per subject, one verdict per check."""
