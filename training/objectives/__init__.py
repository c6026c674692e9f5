"""Losses of one step as pure functions; the only files are the weights of a feature network."""
