"""This machine's clock, processors and processes."""
