"""What is checked: gradients, the function to difference, and rounding bounds."""
