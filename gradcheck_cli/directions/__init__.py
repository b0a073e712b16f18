"""Checks of functions too slow to perturb every entry: random directions, then a search for wrong entries."""
