"""The DICOM upper layer and DIMSE messages (PS3.7, PS3.8), as requestor and as acceptor.

================  =============================  ==============================
layer             requestor                      acceptor
================  =============================  ==============================
PDUs              `connection`                   `acceptor_connection`
A-ASSOCIATE       `proposal`                     `associate_pdu`, `negotiation`
DIMSE requests    `association`                  `services`
================  =============================  ==============================

`message`, `command`, `status` and `commitment` serve both roles.

Nothing here knows the ledger, the storage folder, the audit trail or the configuration.
"""
