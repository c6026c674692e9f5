"""From DICOM to batches: reading, splits, simulated noise, crops."""
