"""Layers by hand, and the slips that people make in them."""
