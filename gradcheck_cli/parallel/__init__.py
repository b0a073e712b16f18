"""Measure time and distribute work over processes on this machine."""
