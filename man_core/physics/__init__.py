"""Physics of dose: projection, noise insertion and phantoms."""
