"""The gradients section of a spec: where the gradients to check come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BeforeValidator, Field, PositiveInt, ValidationInfo, create_model, model_validator
from pydantic_core import PydanticCustomError

from gradcheck_cli.errors import Location
from gradcheck_cli.spec.arrays import ArrayFile, Named
from gradcheck_cli.spec.code_sources import CODE_SOURCES, CodeSource
from gradcheck_cli.spec.model import Model, by_key


class Backprop(Model):
    """Gradients from gradcheck's own backprop.

    source: Always `backprop`, which needs neither a file nor code.
    """

    source: Literal["backprop"] = "backprop"


class GradientFile(ArrayFile):
    """Your gradients, in a file with one array per parameter."""


@dataclass(frozen=True)
class Code:
    """A reference to user code, `FILE.py:NAME`: a Python file and a name that it defines."""

    file: Path
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file.name}"


def code_of(text: str, folder: Path) -> Code | None:
    """Parse a code reference such as `my_net.py:loss_and_gradients`; return None if it is malformed.

    folder: the folder that the file is relative to.
    """
    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or "\0" in file or not all(map(str.isidentifier, name.split("."))):
        return None
    return Code(Path(folder, file), name)


def _code(value: object, info: ValidationInfo) -> object:
    code = code_of(value, (info.context or {}).get("folder", Path())) if isinstance(value, str) else value
    if not isinstance(code, Code):
        raise PydanticCustomError("code_type", "expected FILE.py:NAME, not {found}", {"found": repr(value)})
    return code


CodeName = Annotated[Code, BeforeValidator(_code, json_schema_input_type=str)]


class FromCode(Model):
    """Gradients from user code that computes its own loss. Each kind of user code has its own subclass."""

    kind: ClassVar[CodeSource]

    code: CodeName

    @property
    def where(self) -> Location:
        """The place in the spec that names the code."""
        return ("gradients", self.kind.key)

    @model_validator(mode="before")
    @classmethod
    def _with_its_file(cls, given: Any) -> Any:
        """Join the file and the name to `FILE.py:NAME` if the spec gives them under separate keys."""
        if not isinstance(given, dict) or cls.kind.file_key not in given:
            return given
        file, name = given[cls.kind.file_key], given.get(cls.kind.key)
        both = isinstance(file, str) and isinstance(name, str) and ":" not in name
        return {**given, cls.kind.key: f"{file}:{name}"} if both else given

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.kind.key,), self.__getstate__()


def _reference(value: object, info: ValidationInfo) -> object:
    """Return the name of a function in the same file as it is, and FILE.py:NAME as `Code`."""
    if isinstance(value, str) and all(map(str.isidentifier, value.split("."))):
        return value
    return _code(value, info)


class WithReference(FromCode):
    """Code that may compute in a narrow type, such as float32 or bfloat16, next to a reference in float64.

    reference: The function that computes the same forward pass in float64, in the same file or as
        `FILE.py:NAME`. Differences are taken of it, and your code is called in the types of its parameters.
    """

    reference: Annotated[Code | str, BeforeValidator(_reference, json_schema_input_type=str)] = ""


class NetworkCode(WithReference, Named):
    """Code that possibly implements a network, with its author's own parameter names and weight layout."""

    vectorized: bool = False


def _model_of(source: CodeSource) -> type[FromCode]:
    """Return the pydantic model for one kind of user code; the field `code` has the alias `source.key`."""
    base = NetworkCode if source.is_network else WithReference if source.takes_reference else FromCode
    code: Any = (CodeName, Field(alias=source.key))
    others: Any = {key: (str, "") for key in (*source.functions, source.file_key) if key}
    others |= dict.fromkeys(source.counts, (PositiveInt | None, None))
    made = create_model(
        source.model, __base__=base, __doc__=source.keys, __module__=__name__, code=code, **others
    )
    model = cast(type[FromCode], made)
    model.kind = source
    return model


CODE_MODELS: Mapping[str, type[FromCode]] = {source.key: _model_of(source) for source in CODE_SOURCES}
"""Maps the key of each kind of user code to its pydantic model."""


def _unpickled(key: str) -> FromCode:
    model = CODE_MODELS[key]
    return model.__new__(model)


Gradients = Annotated[
    GradientFile | FromCode | Backprop, by_key({"file": GradientFile, **CODE_MODELS, "source": Backprop})
]
