"""The subjects of a check.

Each subject has gradients to check, the function whose gradients they should be, and rounding bounds.
"""
