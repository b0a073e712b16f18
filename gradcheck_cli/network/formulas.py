"""The formulas of a step, for people: its output, and how each argument enters the gradient.

A formula is a template. In it, `{x}` and `{y}` stand for the first and the second input, `{all}` for all of
them, `{out}` for the output, `{g}` for ∂L/∂out, and the name of a parameter for that parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Argument:
    """An input or a parameter of a step, with the two factors of its gradient.

    symbol: what a textbook calls it, if nothing else gives it a name.
    local: ∂out/∂argument.
    product: ∂L/∂argument = ∂L/∂out · ∂out/∂argument. In it, `{local}` stands for ∂out/∂argument.
    """

    symbol: str
    local: str
    product: str


@dataclass(frozen=True)
class Formulas:
    """How a textbook writes a step.

    symbol: the usual symbol of the output, such as z for an affine step.
    out: the output as a formula of the inputs and the parameters.
    inputs: one for each input; the last one stands for all further inputs.
    parameters: one for each parameter, by its name in the step.
    where: what the formulas leave open, in a few words that begin with "with".
    moves: whether the step only puts the numbers of its input elsewhere, so that they keep their symbol.
    joint: what stands between the inputs in `{all}`.
    index: the index in the formulas that counts the steps of a sequence, if they take one each.
    """

    symbol: str
    out: str
    inputs: tuple[Argument, ...]
    parameters: Mapping[str, Argument] = field(default_factory=dict)
    where: str = ""
    moves: bool = False
    joint: str = ", "
    index: str = ""

    def input(self, number: int) -> Argument:
        """Return the argument that describes this input, counted from 0."""
        return self.inputs[min(number, len(self.inputs) - 1)]

    def filled(self, template: str, out: str, inputs: Sequence[str], **symbols: str) -> str:
        """Return a template with the symbols of the output, the inputs, the parameters and ∂L/∂out."""
        named = {name: argument.symbol for name, argument in self.parameters.items()}
        known = {**dict(zip("xy", inputs, strict=False)), "out": out, "all": self.joint.join(inputs)}
        return template.format(**{**named, **known, **symbols})
