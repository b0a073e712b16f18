"""Translate pydantic's errors about a spec into messages that its author understands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gradcheck_cli.errors import Complaint, Location, closest, did_you_mean, shortened
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.spec.elsewhere import help_for_key, help_for_name, renamed
from gradcheck_cli.spec.forms import help_for_value
from gradcheck_cli.spec.model import Kinds, keys_of
from gradcheck_cli.spec.spec import Spec


@dataclass(frozen=True)
class Place:
    """The place of an error in the spec.

    where: the keys and indices that lead to the place.
    keys: the keys allowed in the mapping that contains the place.
    other_kinds: keys that would turn that mapping into a mapping of another kind.
    """

    where: Location = ()
    keys: tuple[str, ...] = ()
    other_kinds: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The last key of the place, without the indices that follow it."""
        return next((step for step in reversed(self.where) if isinstance(step, str)), "")

    @property
    def name(self) -> str:
        """The last key of the place and the indices that follow it, such as `'x[0][3]'`."""
        last = max(i for i, step in enumerate(self.where) if isinstance(step, str))
        key, *indices = self.where[last:]
        return f"'{shortened(str(key))}{''.join(f'[{i}]' for i in indices)}'"


def explain(errors: Sequence[ErrorDetails]) -> Iterator[tuple[Complaint, bool]]:
    """Yield each complaint with a flag: True if the complaint is about a key, False if about its value.

    An error that is merely a consequence of another error is left out.
    """
    placed = [(details, _walk(details["loc"])) for details in errors]
    misspelt = {
        (*place.where[:-1], _meant(place))
        for details, place in placed
        if details["type"] == "extra_forbidden"
    }
    nested = {
        place.where[:-1]
        for details, place in placed
        if details["type"].startswith(("int_", "float_")) and isinstance(details["input"], Mapping)
    }
    for details, place in placed:
        if details["type"] == "missing" and (place.where in misspelt or place.where[:-1] in nested):
            continue
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # too short only because items with errors of their own are left out
        yield from _complaints(details, place)


def _complaints(details: ErrorDetails, place: Place) -> Iterator[tuple[Complaint, bool]]:
    kind, found, context = details["type"], details.get("input"), details.get("ctx", {})
    if kind == "extra_forbidden":
        yield Complaint(f"unknown key {place.name}", place.where, _help_for_key(place)), True
    elif kind == "missing":
        yield _missing(place, found if isinstance(found, Mapping) else {}), False
    elif kind == "from_elsewhere":
        yield Complaint(context["message"], (*place.where, *context["key"]), context["help"]), True
    elif kind == "foreign_option":
        for option in context["options"]:
            message = f"'{context['name']}' has no option '{option}'; {context['allowed']}"
            yield Complaint(message, (*place.where, option)), True
    elif kind in ("literal_error", "unknown_name"):
        yield _unknown_word(kind, place, found, context), False
    else:
        template = _MESSAGES.get(kind)
        message = (
            template(place.name, _describe(found), context) if template else f"{place.name}: {details['msg']}"
        )
        yield Complaint(message, place.where, help_for_value(kind, place.key, found)), False


def _meant(place: Place) -> str | None:
    """Return the allowed key that an unknown key stands for; None if it is unclear."""
    key = place.where[-1]
    return "name" if _is_name(place) else renamed(key, place.keys) or closest(key, place.keys)


def _is_name(place: Place) -> bool:
    """Return whether an unknown key is the name of a loss or an activation, whose key would be `name`."""
    return {"name", "alpha"} <= set(place.keys) and place.where[-1] in (*LOSSES, *ACTIVATIONS)


def _help_for_key(place: Place) -> str:
    key = place.where[-1]
    if _is_name(place):
        return f"write {{name: {key}}}; its options have names, too"
    known = help_for_key(key, place.keys) or did_you_mean(key, place.keys)
    return known or f"allowed here: {', '.join(place.keys)}"


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
    "code_type": lambda key, found, _: f"{key} must be FILE.py:NAME, not {found}",
    "path_type": lambda key, found, _: f"{key} must be a file name, not {found}",
    "greater_than_equal": lambda key, found, limit: (
        f"{key} is {found}; it must be at least {_number(limit['ge'])}"
    ),
    "greater_than": lambda key, found, limit: (
        f"{key} is {found}; it must be greater than {_number(limit['gt'])}"
    ),
    "less_than_equal": lambda key, found, limit: (
        f"{key} is {found}; it must be at most {_number(limit['le'])}"
    ),
    "less_than": lambda key, found, limit: f"{key} is {found}; it must be less than {_number(limit['lt'])}",
    "too_short": lambda key, _, limit: f"{key} is empty; it needs at least {limit['min_length']} item",
    "too_long": lambda key, _, limit: f"{key} has more than {limit['max_length']:,} items",
    "string_too_long": lambda key, _, limit: f"{key} is longer than {limit['max_length']} characters",
    "layer_type": lambda key, found, allowed: (
        f"{key} must be a mapping such as {{units: 10}}, or one of {allowed['words']}, not {found}"
    ),
    "array_type": lambda key, found, _: f"{key} must be a list of numbers, or {{file: FILE}}, not {found}",
    "name_type": lambda key, found, _: f"{key} must be a name or a mapping, not {found}",
    **dict.fromkeys(
        ("string_too_short", "string_pattern_mismatch"),
        lambda key, found, _: (
            f"{key} is {found}; a name may contain only letters, digits, _ and -, "
            "and must begin with a letter or _"
        ),
    ),
    "empty_interval": lambda key, _, __: f"the interval {key} is empty: both ends are the same",
}


_OF_FIXED_LENGTH = {
    **dict.fromkeys(("from", "to"), "two numbers, [low, high]"),
}
"""Maps each key whose value is a list of fixed length to a phrase that describes the list."""


_FEW_KINDS = 6
"""The largest number of other kinds whose keys are listed."""


def _missing(place: Place, found: Mapping[str, object]) -> Complaint:
    *parent, step = place.where
    if isinstance(step, int):  # a list of a fixed length
        needed = _OF_FIXED_LENGTH.get(str(parent[-1]), "two numbers, [height, width], or one number for both")
        return Complaint(f"{Place(tuple(parent)).name} must be {needed}", tuple(parent))
    if set(found) <= {"activation", "name"} and step == "units":
        help = "an activation belongs to a layer: {units: 10, activation: relu}"
        return Complaint(f"missing key '{step}'", tuple(parent), help)
    few = 0 < len(place.other_kinds) <= _FEW_KINDS
    others = f"; other kinds need {' or '.join(place.other_kinds)}" if few else ""
    return Complaint(f"missing key '{step}'", tuple(parent), f"allowed here: {', '.join(place.keys)}{others}")


def _unknown_word(kind: str, place: Place, found: object, context: Mapping[str, Any]) -> Complaint:
    known = help_for_name(context.get("kind", ""), found)
    if kind == "unknown_name":
        allowed = context["names"]
        choices = ", ".join(context.get("choices", allowed))
        message = f"unknown {context['kind']} {_describe(found)}; choose from {choices}"
    else:
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        message = f"{place.name} is {_describe(found)}; allowed: {', '.join(allowed)}"
    known = known or help_for_value(kind, place.key, found)
    return Complaint(message, place.where, known or did_you_mean(found, allowed))


def _describe(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"'{shortened(value)}'" if isinstance(value, str) else shortened(str(value))


def _number(limit: float) -> str:
    return f"{int(limit) if limit == int(limit) else limit:,}"


# --- from an error's location to the place in the spec and the keys allowed there ------------------------


def _walk(loc: tuple[str | int, ...]) -> Place:
    """Convert a location in a pydantic error to a place in the spec. Names of union members are left out."""
    annotation: Any = Spec
    place = Place()
    others: tuple[str, ...] = ()
    for step in loc:
        kinds = _kinds(annotation)
        if kinds is not None:
            annotation = kinds.members[str(step)]
            others = tuple(f"'{key}'" for key in kinds.needed_keys if key != step)
            continue
        place = Place((*place.where, step), (), others)
        annotation, others = _plain(annotation), ()
        if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
            fields = _fields(annotation)
            place = replace(place, keys=tuple(fields))
            annotation = fields.get(str(step))
        else:
            annotation = next(iter(get_args(annotation)), None)
    return place


@cache
def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the type of each key of a model, including the metadata of the field."""
    return {key: _type(field) for key, field in keys_of(model).items()}


def _type(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _kinds(annotation: Any) -> Kinds | None:
    """Return the `Kinds` of a union, even inside `Annotated` or `| None`; None if there are no `Kinds`."""
    if get_origin(annotation) is Annotated:
        below, *metadata = get_args(annotation)
        found = (each for each in metadata if isinstance(each, Kinds))
        return next(found, None) or _kinds(below)
    if get_origin(annotation) in (Union, UnionType):
        return _kinds(_present(annotation))
    return None


def _plain(annotation: Any) -> Any:
    """Strip `Annotated` and `| None` from a type."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return _plain(_present(annotation))
    return annotation


def _present(annotation: Any) -> Any:
    """Return the first member of a union other than None."""
    return next(member for member in get_args(annotation) if member is not NoneType)
