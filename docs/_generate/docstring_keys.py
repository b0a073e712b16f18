"""Show the `key: text` lines of a docstring as parameters or attributes."""

from __future__ import annotations

import re
from typing import Any

import griffe

_KEY = re.compile(r"(?:(?<=  )|^)(?=\w+(?:, \w+)*: )", re.MULTILINE)
"""Where a key begins: on a line of its own, or after two spaces."""


class DocstringKeys(griffe.Extension):
    """Turns our `name: what it is.` lines into the sections that mkdocstrings knows."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        _section_docstring(cls, set(cls.members), "Attributes:")

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        _section_docstring(func, {parameter.name for parameter in func.parameters}, "Args:")


def _section_docstring(obj: griffe.Object, names: set[str], title: str) -> None:
    if obj.docstring:
        paragraphs = obj.docstring.value.split("\n\n")
        obj.docstring.value = "\n\n".join(sectioned(paragraph, names, title) for paragraph in paragraphs)


def sectioned(paragraph: str, names: set[str], title: str) -> str:
    """Return the paragraph as a section with a title if it consists of `name: …` entries for these names.

    Any other paragraph is returned unchanged.
    """
    entries = [" ".join(entry.split()) for entry in _KEY.split(paragraph) if entry.strip()]
    if not all(set(_keys(entry)) & names for entry in entries):
        return paragraph
    lines = [f"    {key}: {entry.partition(': ')[2]}" for entry in entries for key in _keys(entry)]
    return "\n".join([title, *lines])


def _keys(entry: str) -> list[str]:
    """Return the names before the colon: x and y for ``x, y: passed on.``"""
    before, colon, _ = entry.partition(": ")
    return before.split(", ") if colon else []
