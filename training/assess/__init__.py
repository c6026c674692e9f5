"""Assessment of one model: HU, planted lesions, noise texture, sharpness, detectability."""
