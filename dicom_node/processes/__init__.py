"""The processes of the node: its parts, their supervision, and what each reports of itself."""
