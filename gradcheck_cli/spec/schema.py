"""The JSON Schema of a spec, in draft-07, the version that editors support."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gradcheck_cli.spec.model import Model
from gradcheck_cli.spec.spec import Spec

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft's address, spelt exactly as in the draft's own `$id`, because editors look the draft up by it."""

_KEY = re.compile(r"^(\w+): (.+(?:\n(?!\w+: )[^\n]+)*)", re.MULTILINE)
"""Matches a key and its description in a model's docstring."""


def json_schema(version: str) -> dict[str, Any]:
    """Return the JSON Schema of a spec, with a description of every key.

    version: the version of gradcheck, for the `$id`.
    """
    schema = Spec.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Draft7)
    schema |= {"title": "gradcheck spec", "definitions": schema.pop("$defs")}
    return {
        "$schema": DRAFT,
        "$id": f"urn:gradcheck:spec:{version}",
        **_with_names(_without_siblings(schema)),
    }


class _Draft7(GenerateJsonSchema):
    """A schema generator that produces draft-07 instead of pydantic's draft 2020-12."""

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        described = super().tuple_schema(schema)
        if "prefixItems" in described:
            described["items"] = described.pop("prefixItems")
        return described

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described, model = super().model_schema(schema), schema["cls"]
        described["title"] = _title(model)
        described["description"] = _description(model)
        for key, text in _keys(model).items():
            described["properties"][key]["description"] = text
        return described

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out defaults that tell nothing: null, and a section whose keys all have their defaults."""
        described = super().default_schema(schema)
        return {key: value for key, value in described.items() if key != "default" or value not in (None, {})}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out the titles of fields, since a title would only repeat the key."""
        return False

    def encode_default(self, dft: Any) -> Any:
        """Shorten a default to what an editor should insert: the keys that are set, or only the name."""
        said = dft.model_dump(exclude_unset=True) if isinstance(dft, BaseModel) else dft
        named = isinstance(said, dict) and list(said) == ["name"]
        return super().encode_default(said["name"] if named else said)


def _title(model: type[BaseModel]) -> str:
    """Return the title of a model: its class name in lower-case words, such as ``python function``."""
    return " ".join(re.findall("[A-Z][a-z]*", model.__name__.removesuffix("Spec"))).lower()


def _description(model: type[BaseModel]) -> str:
    """Return the part of a model's docstring before the descriptions of the model's keys."""
    text = _KEY.split(inspect.getdoc(model) or "", maxsplit=1)[0]
    return "\n\n".join(map(_joined, text.strip().split("\n\n")))


def _keys(model: type[BaseModel]) -> dict[str, str]:
    """Return the description of every key, taken from the docstrings of a model and its base classes."""
    ours = [each for each in reversed(model.__mro__) if issubclass(each, Model)]
    docstrings = [inspect.cleandoc(each.__doc__ or "") for each in ours]
    return {key: _joined(text) for docstring in docstrings for key, text in _KEY.findall(docstring)}


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def _without_siblings(schema: Any) -> Any:
    """Wrap every `$ref` that has siblings in `allOf`, since draft-07 ignores the siblings of a `$ref`."""
    if isinstance(schema, list):
        return [_without_siblings(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and len(schema) > 1:
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return {key: _without_siblings(value) for key, value in schema.items()}


def _with_names(schema: Any) -> Any:
    """Make a schema that allows a name or a mapping accept no string except the known names.

    The error of a validator then lists the names.
    """
    if isinstance(schema, list):
        return [_with_names(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _with_names(value) for key, value in schema.items()}
    names = [each for each in schema.get("anyOf", ()) if {"enum", "type"} == each.keys()]
    if len(names) == 1 and names[0]["type"] == "string" and len(schema["anyOf"]) > 1:
        schema |= {"if": {"type": "string"}, "then": {"enum": names[0]["enum"]}}
    return schema
