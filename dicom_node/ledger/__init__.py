"""The ledger: a database of received series, the jobs on them, and the delivery of the results."""
