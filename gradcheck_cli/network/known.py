"""The facts that rounding analysis knows about the arrays of a step: values, and bounds on their errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradcheck_cli.types import Array

Arrays = Mapping[str, Array]
Inputs = tuple[Array, ...]


@dataclass(frozen=True)
class Upstream:
    """∂L/∂out (N, *features), as backprop passes it to a step, and its rounding error.

    value: ∂L/∂out itself.
    error: a bound on |computed − exact|.
    hidden: how much larger |∂L/∂out| can get if rounding puts a number on the other side of a kink.
    """

    value: Array
    error: Array
    hidden: Array


@dataclass(frozen=True)
class Known:
    """The inputs and output of a step in the forward pass, with a bound on the error of each."""

    inputs: tuple[Array, ...]
    output: Array
    input_errors: tuple[Array, ...]
    output_error: Array
