"""Training and evaluation of models on the scans of a site."""
