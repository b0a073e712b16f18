"""The subjects of a check: gradients, the function to difference, and rounding bounds."""
