"""The loss of one step, pure: no optimiser, no data, no files but a feature network's weights."""
