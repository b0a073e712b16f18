"""Functions of many kinds for `functions.py`, with right and wrong gradients written by hand."""
