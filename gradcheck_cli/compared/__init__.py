"""Compare two sources of the same gradients with each other instead of with finite differences."""
