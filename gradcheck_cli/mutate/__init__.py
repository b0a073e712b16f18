"""Planted mistakes, and whether a check notices them."""
