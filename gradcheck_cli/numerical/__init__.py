"""Compute finite differences with error bars. Nothing here ever sees an analytic derivative."""
