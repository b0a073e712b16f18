"""What pydantic says about a spec, in the words of its author."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from gradcheck_cli.errors import Complaint, Location, did_you_mean
from gradcheck_cli.spec import Spec


def explain(details: ErrorDetails) -> tuple[Complaint, bool]:
    """The complaint, and whether it is about the key at the end of its location, not the value."""
    where, keys = _walk(details["loc"])
    key = f"'{where[-1]}'" if where and isinstance(where[-1], str) else "this"
    kind, found, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "extra_forbidden":
        known = did_you_mean(where[-1], keys) or f"allowed here: {', '.join(keys)}"
        return Complaint(f"unknown key {key}", where, known), True
    if kind == "missing":
        return Complaint(f"missing key {key}", where[:-1], _needed_keys(keys)), False
    if kind == "invalid_key":
        return Complaint(f"a key must be a word, not {found!r}", where), True
    if kind == "foreign_option":
        return Complaint(details["msg"], (*where, context["option"])), True
    if kind in ("literal_error", "unknown_name"):
        return _unknown_word(kind, key, found, context, details["msg"], where), False
    template = _MESSAGES.get(kind)
    message = template(key, _describe(found), context) if template else f"{key}: {details['msg']}"
    help = "without quotes it is a number" if _is_quoted_number(kind, found) else None
    return Complaint(message, where, help), False


_Template = Callable[[str, str, Mapping[str, Any]], str]

_MESSAGES: Mapping[str, _Template] = {
    **dict.fromkeys(
        ("int_type", "int_from_float", "int_parsing", "int_parsing_size"),
        lambda key, found, _: f"{key} must be a whole number, not {found}",
    ),
    **dict.fromkeys(
        ("float_type", "float_parsing"), lambda key, found, _: f"{key} must be a number, not {found}"
    ),
    "finite_number": lambda key, found, _: f"{key} must be a finite number, not {found}",
    "string_type": lambda key, found, _: f"{key} must be text, not {found}",
    "bool_type": lambda key, found, _: f"{key} must be true or false, not {found}",
    "tuple_type": lambda key, found, _: f"{key} must be a list, not {found}",
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"),
        lambda key, found, _: f"{key} must be a mapping, not {found}",
    ),
    "path_type": lambda key, found, _: f"{key} must be a file name, not {found}",
    "greater_than_equal": lambda key, found, limit: f"{key} is {found}; it must be at least {limit['ge']:,}",
    "greater_than": lambda key, found, limit: f"{key} is {found}; it must be greater than {limit['gt']:,}",
    "less_than_equal": lambda key, found, limit: f"{key} is {found}; it must be at most {limit['le']:,}",
    "less_than": lambda key, found, limit: f"{key} is {found}; it must be less than {limit['lt']:,}",
    "too_short": lambda key, _, limit: (
        f"{key} has {limit['actual_length']} items; at least {limit['min_length']} needed"
    ),
    "too_long": lambda key, _, limit: f"{key} has more than {limit['max_length']} items",
    "missing_argument": lambda key, _, __: f"{key} is incomplete",
    "string_too_short": lambda key, _, __: f"{key} is empty",
    "string_pattern_mismatch": lambda key, found, _: (
        f"{key} is {found}; a name is letters, digits, _ and -, and begins with a letter"
    ),
    "empty_interval": lambda _, __, ___: "the interval 'from' is empty: both ends are the same",
}


def _unknown_word(
    kind: str, key: str, found: object, context: Mapping[str, Any], message: str, where: Location
) -> Complaint:
    if kind == "unknown_name":
        return Complaint(message, where, did_you_mean(found, context["names"]))
    allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
    return Complaint(
        f"{key} is {_describe(found)}; allowed: {', '.join(allowed)}", where, did_you_mean(found, allowed)
    )


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _is_quoted_number(kind: str, found: object) -> bool:
    if not kind.startswith(("int_", "float_")) or not isinstance(found, str):
        return False
    try:
        float(found)
    except ValueError:
        return False
    return True


def _needed_keys(keys: tuple[str, ...]) -> str:
    return f"keys here: {', '.join(keys)}"


# --- from an error's location to the place in the spec and the keys allowed there ------------------------


def _walk(loc: tuple[str | int, ...]) -> tuple[Location, tuple[str, ...]]:
    """The location without pydantic's union tags, and the keys of the mapping its last step is in."""
    where: list[str | int] = []
    annotation: Any = Spec
    keys: tuple[str, ...] = ()
    for step in loc:
        member = _union_member(annotation, step)
        if member is not None:
            annotation = member
            continue
        where.append(step)
        annotation = _plain(annotation)
        if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            keys = tuple(fields)
            annotation = fields[str(step)].annotation if step in fields else None
        else:
            annotation = next(iter(get_args(annotation)), None)
    return tuple(where), keys


def _plain(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return _plain(next(member for member in get_args(annotation) if member is not NoneType))
    return annotation


def _union_member(annotation: Any, tag: str | int) -> Any:
    """The member of a tagged union that pydantic's location names by its tag."""
    if get_origin(annotation) is Annotated:
        return _union_member(get_args(annotation)[0], tag)
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            if Tag(str(tag)) in getattr(member, "__metadata__", ()):
                return member
    return None
