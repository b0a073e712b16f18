"""Wording shared by all formats for people, in plain text without layout: one file per subject."""
