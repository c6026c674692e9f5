"""Read-only web server: health check, metrics, and status as JSON and as a page."""

from __future__ import annotations

from dicom_node.web.server import web_served

__all__ = ["web_served"]
