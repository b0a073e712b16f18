"""Finite differences with error bars. Nothing in here ever sees a derivative."""
