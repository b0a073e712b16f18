"""The subjects of a check. Each has gradients, the function that they belong to, and rounding bounds."""
