"""Use this machine's clock, processors and processes."""
