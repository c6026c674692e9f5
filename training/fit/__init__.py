"""The training loop, its state on disk and the tasks that it runs."""
