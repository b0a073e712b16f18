"""A step that outputs an array from the data, such as a mask, with one row for each sample.

The array has no gradient, and the step has no input. A forward pass converts the array to the precision of x.
A step that takes the array as an input gets the rows of the samples that are evaluated, as with any other
value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.step import Arrays, Inputs, Known, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Given(Step):
    """Output the array `value`, (N, *features), for N samples.

    key: the spec's key for the array.
    """

    value: Array
    key: str
    couples = "nothing"
    formulas = Formulas("mask", "given with the data", (Argument("x", "0", "0"),))

    def for_batch(self, first: int, samples: int) -> Given | None:
        """Return a step with the array's rows for one batch; None if the number of rows does not fit.

        The array has a row for each sample of the batch, or for each sample of the data set.

        first: the index of the batch's first sample in the data set.
        samples: the number of samples in the batch.
        """
        if len(self.value) == samples:
            return self
        part = self.value[first : first + samples]
        return replace(self, value=part) if first + samples <= len(self.value) else None

    def out(self, *features: Shape) -> Shape:
        return self.value.shape[1:]

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.value

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        bound: Array = arithmetic.eps * np.abs(output)
        return bound

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        return (), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return ()
