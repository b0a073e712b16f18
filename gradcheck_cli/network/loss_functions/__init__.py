"""Values, gradients and kinks of the losses, for the table in `losses`."""
