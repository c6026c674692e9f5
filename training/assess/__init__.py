"""Assessment of one model: HU, inserted lesions, noise texture, sharpness, detectability."""
