"""DICOM network services: Storage and Verification, as SCP and as SCU."""
