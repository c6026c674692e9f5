"""``check``: everything the node needs, tried once, a verdict each; one file a neighbourhood."""

from __future__ import annotations

from dicom_node.cli.check import register

__all__ = ["register"]
