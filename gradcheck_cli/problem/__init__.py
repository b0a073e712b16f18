"""Build a network with its parameters and data from a spec."""
