"""Check gradients entry by entry."""
