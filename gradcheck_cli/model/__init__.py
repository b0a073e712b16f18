"""Networks: forward, loss per sample, backprop by formula, and the forward pass with one thing moved."""
