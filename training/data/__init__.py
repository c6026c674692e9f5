"""Training data from DICOM to batches: reading, splits, simulated noise, crops."""
