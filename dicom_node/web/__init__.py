"""The node as an operator sees it: health, metrics, status as JSON and as a page; read-only."""

from __future__ import annotations

from dicom_node.web.server import web_served

__all__ = ["web_served"]
