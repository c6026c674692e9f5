"""Image quality of models on held-out data."""
