"""The subjects of a check.

Each subject has gradients, the function that they belong to, and rounding bounds.
"""
