"""The demonstration: a simulated patient is scanned, denoised and compared with the truth."""
