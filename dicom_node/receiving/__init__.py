"""The receiver: Storage, Verification and Storage Commitment SCP."""
