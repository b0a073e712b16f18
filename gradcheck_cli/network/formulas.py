"""The formulas of a step as people write them: its output, and the gradient of each argument.

A formula is a template. In a template, `{x}` and `{y}` stand for the first and the second input, `{all}` for
all inputs, `{out}` for the output, `{g}` for ∂L/∂out, and the name of a parameter for that parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Argument:
    """An input or a parameter of a step, with the formulas of its gradient.

    symbol: the argument's symbol in a textbook, used if the argument has no other name.
    local: ∂out/∂argument.
    product: ∂L/∂argument = ∂L/∂out · ∂out/∂argument. In the template, `{local}` stands for ∂out/∂argument.
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
    where: a phrase that begins with "with" and explains the symbols that the formulas leave undefined.
    moves: whether the step only rearranges its input. If it does, the output keeps the input's symbol.
    joint: the text between the inputs in `{all}`.
    index: the index that counts the positions of a sequence in the formulas; empty if there is no such index.
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
        """Return the `Argument` for input `number`, counted from 0."""
        return self.inputs[min(number, len(self.inputs) - 1)]

    def filled(self, template: str, out: str, inputs: Sequence[str], **symbols: str) -> str:
        """Return a template with the symbols filled in: output, inputs, parameters and ∂L/∂out."""
        named = {name: argument.symbol for name, argument in self.parameters.items()}
        known = {**dict(zip("xy", inputs, strict=False)), "out": out, "all": self.joint.join(inputs)}
        return template.format(**{**named, **known, **symbols})
