"""The base class of all sections of a spec, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gradcheck_cli.errors import closest
from gradcheck_cli.spec.allowed import SEED
from gradcheck_cli.spec.elsewhere import renamed

MAX_SIZE = 1_000_000

MAX_NUMBERS = 250_000_000

"""The largest number of entries in the parameters, in a batch, or in its activations: 2 GB of float64."""


class Model(BaseModel):
    """Base class of all sections of a spec, which are frozen and strict. Unknown keys are errors.

    A default that is a section is made by `model_construct`, because validating the default would build a
    validator that nothing else uses.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # most models are only parts of others: build them on first use
    )


M = TypeVar("M", bound=Model)


def one_of(table: Mapping[str, Any], kind: str) -> AfterValidator:
    """Return a validator that accepts only the names in `table`. The validator's error lists the names.

    kind: the noun for such a name in the error, such as "loss".
    """

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
    """Return a pydantic `Field` whose JSON Schema lists the names in `table`."""
    return Field(json_schema_extra={"enum": list(table)})


def named(value: object) -> object:
    """Expand a bare name such as `tanh` to a mapping, `{name: tanh}`.

    Raises a `PydanticCustomError` if the value is neither, or if it is a mapping with the name as a key.
    """
    if not isinstance(value, (str, dict, Model)):
        raise PydanticCustomError("name_type", "expected a name or a mapping")
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        _refuse_name_as_key(*value.items())
    return {"name": value} if isinstance(value, str) else value


def _refuse_name_as_key(item: tuple[object, object]) -> None:
    """Raise a `PydanticCustomError` if the only item of a mapping maps a name to its options."""
    name, options = item
    if options is None or isinstance(options, dict):
        written = "".join(f", {key}: {value}" for key, value in (options or {}).items())
        help = f"write {{name: {name}{written}}}" if written else f"write {name} alone"
        found = {"message": f"'{name}' is not a key", "help": help, "key": (str(name),)}
        raise PydanticCustomError("from_elsewhere", "{message}", found)


def _resolve(value: object, info: ValidationInfo) -> object:
    """Resolve a file name relative to the folder of the spec. The validation context contains that folder."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise PydanticCustomError("path_type", "expected a file name, not {found}", {"found": repr(value)})
    folder = (info.context or {}).get("folder", Path())
    try:
        return Path(folder, Path(value).expanduser())
    except RuntimeError:
        raise PydanticCustomError(
            "no_home", "there is no home folder for {found}", {"found": value}
        ) from None


Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]

Index = Annotated[int, Field(ge=0, le=2**62)]

Seed = Annotated[int, Field(**SEED)]

Positive = Annotated[float, Field(gt=0)]

NotNegative = Annotated[float, Field(ge=0)]

File = Annotated[Path, BeforeValidator(_resolve, json_schema_input_type=str)]

Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$")]


def refuse_foreign_options(model: Model, known: Collection[str], name: str) -> None:
    """Raise an error if a model sets an option that its activation or loss does not have.

    known: the options that the activation or loss has.  name: the name of the activation or loss.
    """
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
    """Return a function that adds the rule of `refuse_foreign_options` to a JSON Schema.

    The schema then allows an option only next to the name of an activation or loss that has the option.
    """

    def extend(schema: dict[str, Any]) -> None:
        schema["dependencies"] = {
            option: {"properties": {"name": {"enum": names}}}
            for option in schema["properties"]
            if 0 < len(names := [name for name in table if option in options_of(name)]) < len(table)
        }

    return extend


@dataclass(frozen=True, eq=False)  # typing hashes a type's metadata
class Kinds:
    """The kinds of value that are allowed at one place in a spec.

    An object of this class is metadata on the type of that place.

    members: Maps the name of each kind to its type.
    choose: A function that takes a value and returns the name of the kind that its author most likely meant.
    """

    members: Mapping[str, Any]
    choose: Callable[[object], str]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a value only as the kind that `choose` returns, so that all errors are about that kind."""
        choices = {name: handler.generate_schema(kind) for name, kind in self.members.items()}
        return core_schema.tagged_union_schema(choices, discriminator=self.choose)

    @property
    def needed_keys(self) -> tuple[str, ...]:
        """The names of the kinds that require a key of the same name. Such a key decides the kind."""
        return tuple(name for name, member in self.members.items() if _needs(member, name))


def _needs(member: Any, key: str) -> bool:
    is_model = isinstance(member, type) and issubclass(member, Model)
    return is_model and key in (keys := keys_of(member)) and keys[key].is_required()


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a dict that maps each key of a model, as written in a spec, to the key's field."""
    if not model.__pydantic_fields_complete__:  # a field's type contains the model
        model.model_rebuild()
    return {field.alias or name: field for name, field in model.model_fields.items()}


@dataclass(frozen=True, eq=False)
class LateKinds(Kinds):
    """Kinds that are models. The validator of a model is built when a spec first contains that kind."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self.validated)

    def validated(self, value: object, info: ValidationInfo) -> object:
        """Validate a value as the kind that `choose` returns. The kind is part of an error's location."""
        return _only(self, self.choose(value)).validate_python(value, context=info.context)

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self._union())

    def _union(self) -> CoreSchema:
        """Return the union of all kinds, with every model built."""
        return TypeAdapter(Annotated[Any, Kinds(self.members, self.choose)]).core_schema


class NestedKinds(LateKinds):
    """Kinds inside one of the same kinds. The JSON Schema refers to them instead of defining them again."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        union: Any = self._union()
        mentioned: dict[Any, Any] = {
            kind: core_schema.definition_reference_schema(model["ref"])
            for kind, model in union.get("schema", union)["choices"].items()
        }
        return handler(core_schema.tagged_union_schema(mentioned, self.choose))


@cache
def _only(kinds: LateKinds, kind: str) -> TypeAdapter[Any]:
    """Return a validator that takes every value for the given kind."""
    return TypeAdapter(Annotated[Any, Kinds({kind: kinds.members[kind]}, lambda _: kind)])


def by_key(models: Mapping[str, type[Model]]) -> LateKinds:
    """Return `Kinds` that choose a mapping's model by the first key in `models` that the mapping contains.

    If the mapping contains no such key, the model that knows most of the mapping's keys is chosen, even if
    some of the keys are misspelt. Errors are then about the model that the author most likely meant.
    """

    def choose(value: object) -> str:
        if isinstance(value, Model):
            return next(key for key, model in models.items() if isinstance(value, model))
        keys = value if isinstance(value, dict) else ()
        present = (key for key in models if key in keys)
        return next(present, None) or max(
            reversed(tuple(models)), key=lambda kind: _known(keys, models[kind])
        )

    return LateKinds(models, choose)


def _known(keys: Collection[Any], model: type[Model]) -> int:
    known = keys_of(model)
    return sum((renamed(key, known) or closest(key, known)) is not None for key in keys)


@dataclass(frozen=True)
class LateModels(Mapping[str, type[M]]):
    """Models by key. The module of a model is loaded when the model is first used.

    package: the package that contains the modules.
    homes: Maps each key to the model's module in this package and its name, such as "pooling.MaxPool1dSpec".
    """

    package: str
    homes: Mapping[str, str]

    def __getitem__(self, key: str) -> type[M]:
        module, name = self.homes[key].split(".")
        model: type[M] = getattr(import_module(f"{self.package}.{module}"), name)
        return model

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)
