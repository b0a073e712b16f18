"""This machine's clock and its processes."""
