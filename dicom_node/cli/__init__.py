"""The command line: ``dicom-node``.

Exit codes: 0 done, 1 the work failed, 2 wrong use or configuration.
"""

from dicom_node.cli.entry import main

__all__ = ["main"]
