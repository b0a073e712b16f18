"""Evaluate networks whose values or parameter entries are perturbed. Nothing here computes derivatives."""
