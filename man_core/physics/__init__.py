"""The physics of dose: projection, noise insertion and simulated patients."""
