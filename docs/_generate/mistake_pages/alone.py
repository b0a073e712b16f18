"""Examples of a layer alone, whose output a has the upstream gradient y: L = Σ y a."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mistake_pages.program import Program


@dataclass(frozen=True)
class Alone(Program):
    """One or a few layers without a network around them.

    words: a description with its article.
    features: the shape of a sample.  layers: the layers of the spec.
    parameters: the program's name for each parameter.
    forward_pass: the statements that compute the output a.
    backward_pass: the statements that compute every gradient from y.
    functions, constants: the statements that both passes need.
    has_inputs: whether ∂L/∂x is checked, too; False if x consists of tokens.
    """

    notation: ClassVar[str] = (
        "`a` is the output, and `y` is the upstream gradient ∂L/∂a. `dL_dx` is ∂L/∂x, and so on."
    )

    words: str
    features: Sequence[int]
    layers: Sequence[Any]
    parameters: Mapping[str, str]
    forward_pass: str
    backward_pass: str
    functions: str = ""
    constants: str = ""
    has_inputs: bool = True
    data: Mapping[str, Any] = field(default_factory=lambda: {"synthetic": "normal", "samples": 3, "seed": 2})
    init: Mapping[str, Any] = field(
        default_factory=lambda: {"init": "normal", "scale": 0.8, "seed": 1, "bias": "same"}
    )

    @property
    def given(self) -> Mapping[str, Any]:
        loss = {"name": "dot", "reduction": "sum"}
        checked = {"check": {"inputs": True}} if self.has_inputs else {}
        return {
            "network": {"inputs": list(self.features), "layers": list(self.layers), "loss": loss},
            "parameters": self.init,
            "data": self.data,
            **checked,
        }

    @property
    def names(self) -> Mapping[str, str]:
        return {**self.parameters, **({"input": "x"} if self.has_inputs else {})}

    @property
    def forward(self) -> Sequence[str]:
        return [*self.forward_pass.strip().splitlines(), "loss = (y * a).sum()"]

    @property
    def backward(self) -> Sequence[str]:
        return self.backward_pass.strip().splitlines()
