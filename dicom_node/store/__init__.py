"""Files on disk: what was received and what was derived, each complete or not there at all."""
