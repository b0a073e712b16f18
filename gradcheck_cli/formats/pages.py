"""Links from messages to pages of the documentation."""

from __future__ import annotations

import re

DOCS = ""
"""The address of the published documentation, such as https://example.org/docs; empty if unpublished."""


def slug(kind: str) -> str:
    """Return the page name for a kind of mistake, such as `1-n-twice` for `1/N twice`."""
    return re.sub(r"[^a-z0-9]+", "-", kind.lower().replace("'", "")).strip("-")


def page_of(kind: str) -> str:
    """Return the address of the page about a kind of mistake; empty if `DOCS` is empty."""
    return f"{DOCS.rstrip('/')}/mistakes/{slug(kind)}/" if DOCS else ""
