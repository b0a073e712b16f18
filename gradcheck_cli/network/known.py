"""The arrays of a step with bounds on their errors, for rounding analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.types import Array

Arrays = Mapping[str, Array]
Inputs = tuple[Array, ...]


@dataclass(frozen=True)
class Upstream:
    """The upstream gradient ∂L/∂out that backprop passes to a step, with bounds on its error.

    Every array has the shape (N, *features), for N samples.

    value: ∂L/∂out itself.
    error: a bound on |computed − exact|.
    hidden: the amount by which |∂L/∂out| can grow if rounding moves an element to the other side of a kink.
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


def is_exact(error: Array) -> bool:
    """Return whether an error bound is 0 everywhere. A bound that repeats one number is read only once."""
    first = error[(0,) * error.ndim] if error.size and not any(error.strides) else error
    return not np.any(first)
