"""Write the files that command-line options name.

An unusable path is refused before the work starts, and a file is written whole or not at all. Nothing here
knows what a file holds.
"""
