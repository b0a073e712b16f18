"""Functions in which patterns of wrong gradients are planted."""
