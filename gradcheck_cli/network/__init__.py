"""A network as a graph of steps: its forward pass, its backprop, and what rounding may do to both.

Nothing in here knows of finite differences.
"""
