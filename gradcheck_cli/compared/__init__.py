"""Two sources of the same gradients, compared with each other instead of with finite differences."""
