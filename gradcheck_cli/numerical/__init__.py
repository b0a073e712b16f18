"""Finite differences with error bars. This package never sees an analytic derivative."""
