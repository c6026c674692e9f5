"""The processes of the node: which there are, who starts them, and how each shows itself."""
