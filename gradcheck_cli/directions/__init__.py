"""Checks of slow functions along random directions, followed by a search for wrong entries."""
