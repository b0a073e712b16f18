"""The derivation of each gradient, with numbers."""
