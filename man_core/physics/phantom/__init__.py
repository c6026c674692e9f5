"""Analytic phantoms: simulated patients, and water with rods."""
