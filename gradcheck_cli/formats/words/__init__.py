"""The wording that all formats for people share, as plain text without layout, one file per subject."""
