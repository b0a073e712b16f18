"""Adds content generated from the code to the pages while the site is built.

A line `<!-- generated: NAME -->` in a page is replaced by the result of the function NAME in `reference.py`.
Words after the name are the function's arguments.
The pages on mistakes are generated entirely.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import reference
from mkdocs.structure.files import File, Files

if find_spec("mistake_pages"):
    from mistake_pages import pages as pages_on_mistakes
else:  # a checkout without them

    def pages_on_mistakes() -> Iterable[tuple[str, str]]:
        return ()


_MARK = re.compile(r"^<!-- generated: (\w+)((?: \w+)*) -->$", re.MULTILINE)
_LINE = re.compile(r'<span class="go">(✗ |✓ |Why: )')
_KINDS = {"✗ ": "wrong", "✓ ": "right", "Why: ": "why"}


def on_files(files: Files, *, config: Any) -> None:
    """Add the pages on mistakes, if there are any, and an entry for their index in the navigation."""
    for name, text in pages_on_mistakes():
        files.append(File.generated(config, f"mistakes/{name}", content=text))
    known = set(files.src_uris)
    config.nav = [entry for entry in config.nav if known.issuperset(_pages_of(entry))]


def _pages_of(entry: Any) -> set[str]:
    """Return all pages that an entry of the navigation names, at any depth."""
    if isinstance(entry, str):
        return {entry}
    inside = entry.values() if isinstance(entry, dict) else entry
    return {page for each in inside for page in _pages_of(each)}


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARK.sub(lambda found: getattr(reference, found[1])(*found[2].split()), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Highlight the lines in a command's output that state the result."""
    return _LINE.sub(lambda found: f'<span class="go {_KINDS[found[1]]}">{found[1]}', html)
