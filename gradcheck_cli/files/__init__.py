"""Write the files that command-line options name.

An unusable path is refused before the work starts, and a file is written completely or not at all. No module
here depends on what a file contains.
"""
