"""Check slow functions along random directions, and search for wrong entries if the directions disagree."""
