"""The model of an activation and its options in a spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, model_validator

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.spec.model import (
    Model,
    Positive,
    named,
    names_in_schema,
    one_of,
    own_options_in_schema,
    refuse_foreign_options,
)

_ActivationName = Annotated[str, one_of(ACTIVATIONS, "activation"), names_in_schema(ACTIVATIONS)]


def _options_of_activation(name: str) -> tuple[str, ...]:
    return ACTIVATIONS[name].settings


class ActivationSpec(Model):
    """An activation and its options, with PyTorch's names and defaults.

    name: The function φ in a = φ(z).
    negative_slope: The slope of leaky_relu for z < 0.
    alpha: The α of elu. The value of elu tends to −α as z → −∞.
    approximate: `tanh` for the tanh approximation of gelu, `none` for the exact function.
    """

    model_config = ConfigDict(json_schema_extra=own_options_in_schema(ACTIVATIONS, _options_of_activation))

    name: _ActivationName
    negative_slope: float = 0.01
    alpha: Positive = 1.0
    approximate: Literal["none", "tanh"] = "none"

    @model_validator(mode="after")
    def _own_options_only(self) -> ActivationSpec:
        refuse_foreign_options(self, _options_of_activation(self.name), self.name)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return self.model_dump(include=set(ACTIVATIONS[self.name].options))


Activation = Annotated[
    ActivationSpec, BeforeValidator(named, json_schema_input_type=_ActivationName | ActivationSpec)
]
