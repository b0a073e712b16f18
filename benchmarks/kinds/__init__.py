"""Functions of many kinds with gradients by hand, right ones and such with mistakes, for `functions.py`."""
