"""Fills the reference pages with what the models, the commands and the exit codes say.

A line `<!-- generated: NAME -->` of a page is replaced by what the function NAME of `reference.py` returns.
"""

from __future__ import annotations

import re
from typing import Any

import reference
from mkdocs.plugins import event_priority
from mkdocs.structure.files import Files

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


@event_priority(-100)  # after whatever writes pages
def on_files(files: Files, *, config: Any) -> None:
    """List in the navigation, for each entry that is a folder, the pages in that folder."""
    pages = [file.src_uri for file in files.documentation_pages()]
    config.nav = [_listed(entry, pages) for entry in config.nav if _listed(entry, pages)]


def _listed(entry: dict[str, Any], pages: list[str]) -> dict[str, Any]:
    """The entry with its folder's pages, `index.md` first; nothing if the folder has none."""
    ((title, target),) = entry.items()
    if not isinstance(target, str) or not target.endswith("/"):
        return entry
    inside = [page for page in pages if page.startswith(target)]
    return {title: sorted(inside, key=lambda page: (page != f"{target}index.md", page))} if inside else {}


_LINE = re.compile(r'<span class="go">(✗ |✓ |Why: )')
_KINDS = {"✗ ": "wrong", "✓ ": "right", "Why: ": "why"}


def on_page_content(html: str, **_: Any) -> str:
    """Mark the lines of a command's output that say what was found."""
    return _LINE.sub(lambda found: f'<span class="go {_KINDS[found[1]]}">{found[1]}', html)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARK.sub(lambda found: getattr(reference, found[1])(), markdown)
