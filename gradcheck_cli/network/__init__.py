"""A network as a graph of steps: its forward pass, its backprop, and bounds on the rounding errors of both.

Nothing in this package uses finite differences.
"""
