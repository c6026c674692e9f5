"""Helpers of the tests: peers, servers, raw DICOM, factories of CT series and ledgers."""
