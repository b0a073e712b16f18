"""Networks: forward pass, loss per sample, backprop by formula, and the forward pass under perturbations."""
