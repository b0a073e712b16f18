"""The formulas of a step as people write them: its output, and the gradient of each argument.

A formula is a template. In it, `{x}` and `{y}` stand for the first and the second input, `{all}` for all of
them, `{out}` for the output, `{g}` for ∂L/∂out, and the name of a parameter for that parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Argument:
    """An input or a parameter of a step, with the formulas of its gradient.

    symbol: the argument's symbol in a textbook, used if nothing else names the argument.
    local: ∂out/∂argument.
    product: ∂L/∂argument = ∂L/∂out · ∂out/∂argument. In it, `{local}` stands for ∂out/∂argument.
    """

    symbol: str
    local: str
    product: str


@dataclass(frozen=True)
class Formulas:
    """The formulas of a step as a textbook writes them.

    symbol: the usual symbol of the output, such as z for an affine step.
    out: a formula for the output in terms of the inputs and the parameters.
    inputs: an `Argument` for each input; the last one also stands for any further inputs.
    parameters: an `Argument` for each parameter, by the parameter's name in the step.
    where: a phrase that begins with "with" and explains what the formulas leave open.
    moves: whether the step only rearranges its input, so that the output keeps the input's symbol.
    joint: the text between the inputs in `{all}`.
    index: the index that counts the positions of a sequence in the formulas; empty if they have none.
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
        """Return the `Argument` for the input with this number, counted from 0."""
        return self.inputs[min(number, len(self.inputs) - 1)]

    def filled(self, template: str, out: str, inputs: Sequence[str], **symbols: str) -> str:
        """Fill the symbols of the output, the inputs, the parameters and ∂L/∂out into a template."""
        named = {name: argument.symbol for name, argument in self.parameters.items()}
        known = {**dict(zip("xy", inputs, strict=False)), "out": out, "all": self.joint.join(inputs)}
        return template.format(**{**named, **known, **symbols})
