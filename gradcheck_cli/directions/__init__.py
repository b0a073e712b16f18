"""Functions too slow for every entry: random directions, then a search for the wrong entries."""
