"""The demo: a simulated patient goes over the whole line and is compared with the truth."""
