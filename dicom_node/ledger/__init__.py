"""The ledger: which series came, what was done with them, and whether the results arrived."""
