"""The documentation's pages, where a message points to one."""

from __future__ import annotations

import re

DOCS = ""
"""The address of the published documentation, such as https://example.org/docs; empty until there is one."""


def slug(kind: str) -> str:
    """Return the page's name for a kind of mistake: `1/N twice` has the page `1-n-twice`."""
    return re.sub(r"[^a-z0-9]+", "-", kind.lower().replace("'", "")).strip("-")


def page_of(kind: str) -> str:
    """Return the address of the page on a kind of mistake, or nothing if the documentation has no address."""
    return f"{DOCS.rstrip('/')}/mistakes/{slug(kind)}/" if DOCS else ""
