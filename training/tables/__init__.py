"""Published tables, figures and model cards, made anew from measured rows by a command."""
