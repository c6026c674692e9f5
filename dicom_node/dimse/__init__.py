"""The DICOM upper layer and DIMSE messages (PS3.7, PS3.8), in both roles.

Nothing here knows the ledger, the storage folder, the audit trail or the configuration.
"""
