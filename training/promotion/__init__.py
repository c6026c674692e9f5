"""Promotion of a trained model to the one that a site uses: rule, folder and rollback."""
