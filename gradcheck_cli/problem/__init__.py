"""A network with its parameters and data, made from a spec."""
