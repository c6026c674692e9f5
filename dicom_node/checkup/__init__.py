"""The checks of ``dicom-node check``: one file a neighbourhood, a verdict for each attempt."""
