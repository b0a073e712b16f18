"""The whole spec as a frozen pydantic model, from which the JSON Schema is generated.

A line `key: …` in a model's docstring describes that key, in the code and in the schema; see `schema.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticKnownError

from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.code_sources import CODE_SOURCES
from gradcheck_cli.spec.data import Data
from gradcheck_cli.spec.gradients import Backprop, Code, FromCode, GradientFile, Gradients
from gradcheck_cli.spec.model import Model
from gradcheck_cli.spec.network import NetworkSpec
from gradcheck_cli.spec.parameters import Parameters

_UNSAID: Any = ()

"""The value of a section that is left out. The value of an empty section is None, which is an error."""


def _needed_without_code(value: object, info: ValidationInfo) -> object:
    """Require a section, unless the gradients come from user code, which computes its own loss."""
    if value is None:
        raise PydanticKnownError("model_type", {"class_name": "mapping"})
    if value is not _UNSAID:
        return value
    if isinstance(info.data.get("gradients"), Backprop | GradientFile):
        raise PydanticKnownError("missing")
    return None


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


_MAYBE_UNSAID: Any = Field(_UNSAID, validate_default=True, json_schema_extra=_without_default)

_OF_CODE: dict[str, Any] = {
    "required": ["gradients"],
    "properties": {"gradients": {"anyOf": [{"required": [source.key]} for source in CODE_SOURCES]}},
}

"""The rule that `_needed_without_code` enforces, as JSON Schema."""


class Spec(Model):
    """A network, its parameters and data, the gradients to check, and how to check them.

    If the gradients come from code, the network may be left out, because the code computes its own loss. If
    the parameters are left out, they come from the code or are drawn at random.

    gradients: The gradients to check: from gradcheck's own backprop, a file, a layer, a Python function, a
        torch module, or a jax function.
    network: The layers, the loss and the penalties.
    data: The samples: from an .npz file, from lists in the spec, or drawn at random.
    parameters: The parameters at which the gradients are checked: from a file, or drawn at random.
    check: What to check and how.
    dtype: The floating-point type in which gradcheck's own backprop computes.
    """

    model_config = ConfigDict(
        json_schema_extra={"if": {"not": _OF_CODE}, "then": {"required": ["network", "data"]}}
    )

    # first, since this section decides which others are required
    gradients: Gradients = Backprop.model_construct()
    network: Annotated[
        NetworkSpec | None, BeforeValidator(_needed_without_code, json_schema_input_type=NetworkSpec)
    ] = _MAYBE_UNSAID
    data: Annotated[Data | None, BeforeValidator(_needed_without_code, json_schema_input_type=Data)] = (
        _MAYBE_UNSAID
    )
    parameters: Parameters | None = None
    check: CheckSpec = CheckSpec.model_construct()
    dtype: Literal["float64", "float32"] = "float64"

    @property
    def asks_code(self) -> bool:
        """Whether the user's code may have to provide the data or the parameters."""
        if not isinstance(self.gradients, FromCode):
            return False
        return self.data is None or (self.gradients.kind.brings_parameters and self.parameters is None)

    @property
    def code_source(self) -> FromCode | None:
        """The gradients section if it names user code; otherwise None."""
        return self.gradients if isinstance(self.gradients, FromCode) else None

    @property
    def names_code(self) -> Code | None:
        """The reference to the user code that computes the gradients; None if no user code does."""
        return None if self.code_source is None else self.code_source.code
