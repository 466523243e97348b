"""Pure functions over arrays: the part that must be right."""
