"""Published tables, figures and model cards, generated from measured rows."""
