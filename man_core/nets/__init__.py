"""Network modules only; scaling and sampling live elsewhere."""
