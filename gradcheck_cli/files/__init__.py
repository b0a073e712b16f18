"""Files that options name: refused before the work starts, and written whole or not at all.

Nothing here knows what a file holds.
"""
