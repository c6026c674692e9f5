"""One file a method of a recipe: the tasks that the fitting loop runs."""
