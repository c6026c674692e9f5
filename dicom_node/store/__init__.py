"""Durable files on disk: received and derived images, each complete or absent."""
