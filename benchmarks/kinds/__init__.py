"""Functions of many kinds for `functions.py`, with gradients by hand, right and wrong."""
