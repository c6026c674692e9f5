"""Tasks of the training loop, one module per method of a recipe."""
