"""An array with a row for each sample that is given with the data, such as a mask: it has no gradient.

The step has no input: its output is the array, which a run converts to the precision of x. A step that takes
the array as an input gets the rows of the samples that are evaluated, as it does for every value.
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
    """Output the array `value`, (N, *features).

    key: the key of the spec that gives the array.
    """

    value: Array
    key: str
    couples = "nothing"
    formulas = Formulas("mask", "given with the data", (Argument("x", "0", "0"),))

    def for_batch(self, first: int, samples: int) -> Given | None:
        """Return the step for a batch, the samples from number `first` on; None if the rows do not fit.

        The array has a row for each sample of the batch, or for each sample of the data that it is part of.
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
