"""Steps z = L x with a fixed L and no parameters, such as slices, transposes, averages, masks and rotations.

    ∂L/∂x = Lᵀ ∂L/∂z        because ∂z/∂x = L

A subclass defines L and Lᵀ. All error bounds are computed from |L|, the matrix of the absolute values of L's
entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.part import Input, Part, Resting, Risen
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape


class Linear(Step):
    """A fixed linear map of one or more inputs."""

    is_affine = True
    rises = True
    exact = True
    """Whether every output is a copy of an input, so that the forward pass has no rounding error."""

    def apply(self, *inputs: Array) -> Array:
        """Return L x for inputs x, (…, N, *features), of N samples."""
        raise NotImplementedError

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        """Return Lᵀ δ: one array (N, *features) for each input, with N samples.

        delta: δ = ∂L/∂z, (N, *out).
        features: the shape of one sample of each input.
        """
        raise NotImplementedError

    @property
    def absolute(self) -> Self:
        """The map with |L| in place of L. If no entry of L is negative, this map is returned."""
        return self

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        """Return the largest number of terms in any element of L x, and in any element of Lᵀ ∂L/∂z."""
        return 1, 1

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self.apply(*inputs)

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        return Risen(output, output.all, self.apply(*map(_change_of, inputs)))

    def sizes_below(self, p: Arrays, features: tuple[Shape, ...], sizes: Array) -> tuple[Array, ...]:
        return self.absolute.adjoint(sizes, features)

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        if self.exact and self.counts(_features(known.inputs))[1] == 1:
            return self.carried_below(p, known, above)
        return super().sensitivities(p, known, above)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return self.adjoint(upstream, _features(inputs)), {}

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        carried = self.absolute.apply(*errors)
        if self.exact:
            return carried
        terms = self.absolute.apply(*(np.abs(x) for x in inputs))
        return carried + self._rounding(terms, output, self.counts(_features(inputs))[0], arithmetic)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        features = _features(known.inputs)
        handed = self.adjoint(upstream.value, features)
        errors = self.absolute.adjoint(upstream.error, features)
        hidden = self.absolute.adjoint(np.maximum(upstream.hidden, 0.0), features)
        count = self.counts(features)[1]
        if not self.exact or count > 1:
            size = np.abs(upstream.value) + np.maximum(upstream.hidden, 0.0)
            terms = self.absolute.adjoint(size, features)
            errors = tuple(
                error + self._rounding(term, total, count, arithmetic)
                for error, term, total in zip(errors, terms, handed, strict=True)
            )
        return tuple(Upstream(*each) for each in zip(handed, errors, hidden, strict=True)), {}

    def _rounding(self, terms: Array, total: Array, count: int, arithmetic: Arithmetic) -> Array:
        # The second term is for the rounding errors of L's coefficients.
        return arithmetic.summed(terms, total, count) + arithmetic.eps * terms + arithmetic.tiny

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        reached = self.sizes_below(p, features, above[None].astype(float))
        return tuple(mask[0] > 0 for mask in reached)


def _change_of(x: Input) -> Array:
    """Return the change of whole samples of an input, (B, *features), for B copies of samples."""
    return x.whole_rise if isinstance(x, Part) else np.zeros((len(x.samples), *x.features))


def _features(inputs: Inputs) -> tuple[Shape, ...]:
    return tuple(x.shape[1:] for x in inputs)


def fixed(numbers: Array, x: Array) -> Array:
    """Convert an array of constants to the precision of x."""
    return numbers.astype(x.real.dtype, copy=False)
