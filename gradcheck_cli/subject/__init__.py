"""The subjects of a check. Each consists of gradients, the function to difference, and rounding bounds."""
