"""The spec as a JSON Schema, in the draft that editors read: draft-07."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gradcheck_cli import __version__
from gradcheck_cli.spec import Spec

DRAFT = "http://json-schema.org/draft-07/schema#"
"""As its own `$id` spells it: an editor that is asked for another spelling looks for another schema."""

_KEY = re.compile(r"^(\w+): (.+(?:\n(?!\w+: )[^\n]+)*)", re.MULTILINE)
"""A key of a model and its description, in the model's docstring."""


def json_schema() -> dict[str, Any]:
    """What a spec may hold, with a description of every key."""
    schema = Spec.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Draft7)
    schema |= {"title": "gradcheck spec", "definitions": schema.pop("$defs")}
    return {
        "$schema": DRAFT,
        "$id": f"urn:gradcheck:spec:{__version__}",
        **_with_names(_without_siblings(schema)),
    }


class _Draft7(GenerateJsonSchema):
    """pydantic speaks draft 2020-12; this says in the words of draft-07 what differs."""

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
        """Without the defaults that say nothing: that a key is not given, or a section all defaults."""
        described = super().default_schema(schema)
        return {key: value for key, value in described.items() if key != "default" or value not in (None, {})}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Not where the title would be the key over again."""
        return False

    def encode_default(self, dft: Any) -> Any:
        """Of a section what was said of it, and of a name alone the name: an editor fills in no more."""
        said = dft.model_dump(exclude_unset=True) if isinstance(dft, BaseModel) else dft
        named = isinstance(said, dict) and list(said) == ["name"]
        return super().encode_default(said["name"] if named else said)


def _title(model: type[BaseModel]) -> str:
    """Return the title of a model: ``python function`` for ``PythonFunction``."""
    return " ".join(re.findall("[A-Z][a-z]*", model.__name__.removesuffix("Spec"))).lower()


def _description(model: type[BaseModel]) -> str:
    """What the docstring says before it comes to the keys."""
    text = _KEY.split(inspect.getdoc(model) or "", maxsplit=1)[0]
    return "\n\n".join(map(_joined, text.strip().split("\n\n")))


def _keys(model: type[BaseModel]) -> dict[str, str]:
    """The description of every key, in the model's own docstring or in one that it inherits from."""
    ours = [each for each in reversed(model.__mro__) if each.__module__ == Spec.__module__]
    docstrings = [inspect.cleandoc(each.__doc__ or "") for each in ours]
    return {key: _joined(text) for docstring in docstrings for key, text in _KEY.findall(docstring)}


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def _without_siblings(schema: Any) -> Any:
    """Beside a `$ref` draft-07 reads nothing: what stands there goes around it."""
    if isinstance(schema, list):
        return [_without_siblings(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and len(schema) > 1:
        schema = {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return {key: _without_siblings(value) for key, value in schema.items()}


def _with_names(schema: Any) -> Any:
    """What is a name or a mapping is, as text, one of the names: validators list them for a misspelt one."""
    if isinstance(schema, list):
        return [_with_names(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _with_names(value) for key, value in schema.items()}
    names = [each for each in schema.get("anyOf", ()) if {"enum", "type"} == each.keys()]
    if len(names) == 1 and names[0]["type"] == "string" and len(schema["anyOf"]) > 1:
        schema |= {"if": {"type": "string"}, "then": {"enum": names[0]["enum"]}}
    return schema
