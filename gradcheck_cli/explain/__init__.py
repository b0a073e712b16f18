"""Derive each gradient by the chain rule, step by step and with numbers."""
