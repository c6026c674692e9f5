"""From a fitted model to the one that a site uses: a rule, a folder and the way back."""
