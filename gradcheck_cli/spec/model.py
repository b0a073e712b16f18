"""The base of all sections of a spec, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from gradcheck_cli.errors import closest

MAX_SIZE = 1_000_000

MAX_NUMBERS = 250_000_000

"""The most numbers in the parameters, in a batch, or in its activations: 2 GB of float64."""


class Model(BaseModel):
    """Base class of all sections of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most models are only parts of others: build them on first use
    )


def one_of(table: Mapping[str, Any], kind: str) -> AfterValidator:
    """Accept a name in `table`; the error lists all names."""

    def check(name: str) -> str:
        if name not in table:
            raise PydanticCustomError(
                "unknown_name",
                "unknown {kind} '{name}'; choose from {known}",
                {"kind": kind, "name": name, "known": ", ".join(table), "names": list(table)},
            )
        return name

    return AfterValidator(check)


def names_in_schema(table: Mapping[str, Any]) -> Any:
    """Return the field of a name in `table`, whose JSON Schema lists all names."""
    return Field(json_schema_extra={"enum": list(table)})


def named(value: object) -> object:
    """Expand `tanh` to `{name: tanh}`."""
    if not isinstance(value, (str, dict, Model)):
        raise PydanticCustomError("name_type", "a name or a mapping is needed here")
    return {"name": value} if isinstance(value, str) else value


def _resolve(value: object, info: ValidationInfo) -> object:
    """Resolve a path against the spec's folder, which is passed in the validation context."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise PydanticCustomError(
            "path_type", "a file name is needed here, not {found}", {"found": repr(value)}
        )
    folder = (info.context or {}).get("folder", Path())
    try:
        return Path(folder, Path(value).expanduser())
    except RuntimeError:
        raise PydanticCustomError(
            "no_home", "there is no home folder for {found}", {"found": value}
        ) from None


Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]

Index = Annotated[int, Field(ge=0, le=2**62)]

Seed = Annotated[int, Field(ge=0, lt=2**32)]

Positive = Annotated[float, Field(gt=0)]

NotNegative = Annotated[float, Field(ge=0)]

File = Annotated[Path, BeforeValidator(_resolve, json_schema_input_type=str)]

Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$")]


def refuse_foreign_options(model: Model, known: Collection[str], name: str) -> None:
    """Raise an error for options that are set but that the named activation, loss, … does not have."""
    foreign = sorted(model.model_fields_set - {"name", *known})
    if foreign:
        raise PydanticCustomError(
            "foreign_option",
            "'{name}' has no option {options}; {allowed}",
            {
                "name": name,
                "options": foreign,
                "allowed": f"it has {', '.join(known)}" if known else "it has no options",
            },
        )


def own_options_in_schema(
    table: Collection[str], options_of: Callable[[str], Collection[str]]
) -> Callable[[dict[str, Any]], None]:
    """Express `refuse_foreign_options` in JSON Schema: an option is allowed only with names that have it."""

    def extend(schema: dict[str, Any]) -> None:
        schema["dependencies"] = {
            option: {"properties": {"name": {"enum": names}}}
            for option in schema["properties"]
            if 0 < len(names := [name for name in table if option in options_of(name)]) < len(table)
        }

    return extend


Kind = tuple[str, str, type[Model]]


def by_key(*kinds: Kind) -> Discriminator:
    """Choose the member (key, tag, model) of a union by the first of the keys that is present.

    If none is present, choose the member that knows most of the keys found, allowing for misspellings, so
    that the errors are about the member that the author meant.
    """

    def tag(value: object) -> str:
        for key, name, _ in kinds:
            if (key in value) if isinstance(value, dict) else hasattr(value, key):
                return name
        keys = value if isinstance(value, dict) else ()
        likeliest = max(
            reversed(kinds),
            key=lambda kind: sum(closest(key, kind[2].model_fields) is not None for key in keys),
        )
        return likeliest[1]

    return Discriminator(tag)
