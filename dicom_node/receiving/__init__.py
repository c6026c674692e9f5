"""The receiver: SCP of Storage, Verification and Storage Commitment."""
