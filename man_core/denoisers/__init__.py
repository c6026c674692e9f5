"""One file a method; each turns HU into HU."""
