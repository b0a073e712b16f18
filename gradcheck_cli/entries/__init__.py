"""The check of every entry, one after the other."""
