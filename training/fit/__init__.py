"""The fitting loop and what it keeps."""
