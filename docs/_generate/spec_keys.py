"""Convert the JSON Schema of a spec, which is generated from the models, to Markdown tables of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_FIRST = ("network", "parameters", "data", "gradients", "check")
"""The order in which people usually write the keys of a spec, which differs from that of the models."""


@dataclass(frozen=True)
class Section:
    """One model, and its place in a spec, such as `network.layers[]`."""

    path: str
    title: str
    schema: Schema


def page(schema: Schema) -> str:
    """Return a table of keys for the spec itself and for every mapping in it."""
    sections = [Section("", "", schema), *_below(schema, "", schema["definitions"], set())]
    paths = [section.path for section in sections]
    return "\n\n".join(_section(section, paths.count(section.path) > 1) for section in sections)


def _below(schema: Schema, path: str, definitions: Schema, seen: set[str]) -> Iterator[Section]:
    """Yield the models nested in a model, each of them once, in the order of the keys."""
    for key, value in _ordered(schema):
        for name, suffix in _references(value):
            if name not in seen:
                seen.add(name)
                below = definitions[name]
                section = Section(f"{path}{key}{suffix}", below["title"], below)
                yield section
                yield from _below(below, f"{section.path}.", definitions, seen)


def _ordered(schema: Schema) -> list[tuple[str, Schema]]:
    """Return the keys, with required ones first, and those of the spec itself in the order of `_FIRST`."""
    required = schema.get("required", ())

    def rank(item: tuple[str, Schema]) -> tuple[bool, int]:
        return item[0] not in required, _FIRST.index(item[0]) if item[0] in _FIRST else len(_FIRST)

    return sorted(schema["properties"].items(), key=rank)


def _references(value: Any, suffix: str = "") -> Iterator[tuple[str, str]]:
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], suffix
    for key in ("allOf", "anyOf", "oneOf"):
        for each in value.get(key, ()):
            yield from _references(each, suffix)
    if isinstance(value.get("items"), dict):
        yield from _references(value["items"], f"{suffix}[]")


def _section(section: Section, is_one_of_several: bool) -> str:
    schema = section.schema
    heading = f"`{section.path}`" if section.path else "Top level"
    if is_one_of_several:
        heading += f": {section.title.replace('python', 'Python')}"
    rows = [_row(key, value, schema) for key, value in _ordered(schema)]
    table = ["| key | value | default | what it is |", "|---|---|---|---|", *rows]
    return "\n\n".join([f"### {heading}", schema["description"], "\n".join(table)])


def _row(key: str, value: Schema, schema: Schema) -> str:
    default = "required" if key in schema.get("required", ()) else _default(value)
    return f"| `{key}` | {_value(value)} | {default} | {_sentence(value['description'])} |"


def _default(value: Schema) -> str:
    default = value.get("default")
    if default in (None, ["*"]):
        return "`all`" if default else "–"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _sentence(text: str) -> str:
    return (text[0].upper() + text[1:]).replace("|", "\\|")


def _value(value: Schema) -> str:
    """Describe the allowed values in words: `tanh`, a number above 0, a mapping."""
    several = value.get("anyOf") or value.get("oneOf") or value.get("allOf")
    if several:
        known = [_value(each) for each in several if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(known))
    if "$ref" in value:
        return "a mapping"
    if "enum" in value:
        return ", ".join(f"`{name}`" for name in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    return _TYPES[value["type"]](value)


def _list(value: Schema) -> str:
    items = value["items"]
    if isinstance(items, list):
        return f"a list of {len(items)} numbers"
    inner = {
        "number": "numbers",
        "integer": "whole numbers",
        "string": "strings",
        "array": "lists",
        None: "mappings",
    }
    return f"a list of {inner[items.get('type')]}"


def _number(noun: str, value: Schema) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    bounds = [f"at least {low:g}"] if low is not None else [f"above {above:g}"] if above is not None else []
    if high is not None:
        bounds.append(f"at most {high:,g}" if high < 10**6 else f"at most {_rounded(high)}")
    if below is not None:
        bounds.append(f"below {below:g}" if below < 10**6 else f"below {_rounded(below)}")
    return " ".join([noun, " and ".join(bounds)]).strip()


def _rounded(number: int) -> str:
    power = number.bit_length() - 1
    return f"2^{power}^" if number == 2**power else f"{number:,}"


_TYPES = {
    "array": _list,
    "boolean": lambda _: "`true` or `false`",
    "integer": lambda value: _number("a whole number", value),
    "number": lambda value: _number("a number", value),
    "object": lambda _: "a mapping of names",
    "string": lambda _: "a string",
}
