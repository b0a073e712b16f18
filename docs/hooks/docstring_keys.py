"""Shows the `key: text` lines of a docstring as its parameters or attributes."""

from __future__ import annotations

import re
from typing import Any

import griffe

_KEY = re.compile(r"(?<=  )(?=\w+: )|^(?=\w+: )", re.MULTILINE)


class DocstringKeys(griffe.Extension):
    """Turns our `name: what it is.` lines into the sections that mkdocstrings knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring and (obj.is_class or obj.is_function):
            names = _parameters(obj) if obj.is_function else set(obj.members)
            obj.docstring.value = sectioned(obj.docstring.value, names, obj.is_function)


def _parameters(obj: griffe.Object) -> set[str]:
    return {parameter.name for parameter in getattr(obj, "parameters", ())}


def sectioned(text: str, names: set[str], is_function: bool) -> str:
    """The docstring with its lines `name: …`, where the name is one of `names`, under a heading."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(_section(paragraph, names, is_function) for paragraph in paragraphs)


def _section(paragraph: str, names: set[str], is_function: bool) -> str:
    pairs = _KEY.split(paragraph)
    if not all(re.match(r"\w+", pair)[0] in names if re.match(r"\w+: ", pair) else not pair for pair in pairs):
        return paragraph
    lines = [" ".join(pair.split()) for pair in pairs if pair.strip()]
    title = "Args:" if is_function else "Attributes:"
    return "\n".join([title, *(f"    {line}" for line in lines)])
