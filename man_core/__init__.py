"""The core: CT volumes in HU, denoisers, diffusion, dose physics and image quality."""
