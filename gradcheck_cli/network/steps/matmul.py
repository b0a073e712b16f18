"""A product of two values, c · a b or c · a bᵀ, over their last two axes. Attention uses two such products.

    out = c a b:     ∂L/∂a = c g bᵀ       ∂L/∂b = c aᵀ g        g = ∂L/∂out
    out = c a bᵀ:    ∂L/∂a = c g b        ∂L/∂b = c gᵀ a

The scale c is 1/√d for the scores q kᵀ/√d of attention.
(A. Vaswani et al., "Attention is all you need", NeurIPS 2017.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.carried import Product, product_of
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.part import Fixed, Input, Part, Resting, Risen, Valued, together
from gradcheck_cli.network.step import Arrays, Inputs, Known, Sensitivity, Step, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Matmul(Step):
    """Multiply two matrices: c · a b or, if `transposed`, c · a bᵀ, with the scale c.

    The matrix a has the shape (…, T, K). The matrix b has the shape (…, K, S) or, if `transposed`, (…, S, K).
    """

    transposed: bool = False
    scale: float = 1.0
    rises = True

    @property
    def formulas(self) -> Formulas:  # type: ignore[override]
        c = "" if self.scale == 1.0 else f"{self.scale:.3g} "
        if self.transposed:
            of_a, of_b = (
                Argument("a", f"{c}{{y}}", f"{c}{{g}} {{y}}"),
                Argument("b", f"{c}{{x}}", f"{c}{{g}}ᵀ {{x}}"),
            )
            return Formulas("out", f"{c}{{x}} {{y}}ᵀ", (of_a, of_b))
        of_a, of_b = (
            Argument("a", f"{c}{{y}}", f"{c}{{g}} {{y}}ᵀ"),
            Argument("b", f"{c}{{x}}", f"{c}{{x}}ᵀ {{g}}"),
        )
        return Formulas("out", f"{c}{{x}} {{y}}", (of_a, of_b))

    @property
    def label(self) -> str:
        return "a bᵀ" if self.transposed else "a b"

    def out(self, *features: Shape) -> Shape:
        a, b = features
        return (*a[:-1], b[-2] if self.transposed else b[-1])

    def multiplications(self, *features: Shape) -> int:
        return math.prod(self.out(*features)) * features[0][-1]

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        return self._product(*inputs)

    def _product(self, a: Array, b: Array) -> Array:
        product: Array = np.matmul(a, np.swapaxes(b, -1, -2) if self.transposed else b)
        return product if self.scale == 1.0 else product * self.scale

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        a, b = inputs
        if isinstance(a, Part) and isinstance(b, Part):
            if self.transposed and _is_same_row(a) and _is_same_row(b):
                return Risen(output, output.all, self._rise_of_rows(a, b))
            return self._both(a, b, output)
        of_a = _Factor(a, swapped=False)
        of_b = _Factor(b, swapped=not self.transposed)
        if isinstance(a, Part):
            return _moved(of_a, of_b, self.scale, output, transposed=False)
        return _moved(of_b, of_a, self.scale, output, transposed=True)

    def _both(self, a: Part, b: Part, output: Resting) -> Part:
        """Return the part of the output if both factors are perturbed."""
        rank = len(a.fixed)
        fixed, (a, b) = together([each.freed((rank - 2, rank - 1)) for each in (a, b)])
        if isinstance(a, Valued) and isinstance(b, Valued):
            return Valued(output, fixed, self._product(a.value, b.value))
        rise = self._product(a.rise, b.rest.at(fixed))
        rise += self._product(a.value, b.rise)
        return Risen(output, fixed, rise)

    def _rise_of_rows(self, a: Part, b: Part) -> Array:
        """Return the rise of a bᵀ, (B, …, T, S), if one row of `a` and one row of b are perturbed."""
        rise = np.zeros((len(a.held), *a.rest.features[:-1], b.rest.features[-2]))
        lead: list[Any] = [slice(None)] * (len(a.fixed) - 2)
        rise[(a.rest.copies, *lead, a.fixed[-2])] = _times(b.whole, a.rise)
        rise[(b.rest.copies, *lead, slice(None), b.fixed[-2])] += _times(a.rest.whole, b.rise)
        rise *= self.scale
        return rise

    def sensitivities(self, p: Arrays, known: Known, above: Sensitivity) -> tuple[Sensitivity, ...]:
        to, ((a, b), (a_error, b_error)) = self._absolute, (map(np.abs, known.inputs), known.input_errors)

        def below(handed: Callable[[Array, Array], Array], by: Array, by_error: Array) -> Sensitivity:
            error = handed(above.error, by) + handed(above.terms, by_error)
            return Sensitivity(handed(above.terms, by), error).rounded(above)

        return below(to._to_a, b, b_error), below(to._to_b, a, a_error)

    def link(self, k: int, inputs: Inputs, units: Array) -> Product | None:
        a, b = inputs
        if k == 0:
            by, rows, turned = np.swapaxes(b, -1, -2) if self.transposed else b, a.shape[-2], (False, False)
        else:  # the rows of b or bᵀ are the columns of the output
            rows = b.shape[-2] if self.transposed else b.shape[-1]
            by, turned = np.swapaxes(a, -1, -2), (not self.transposed, True)
        return product_of(by * self.scale, rows, turned, units)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        a, b = inputs
        return (self._to_a(upstream, b), self._to_b(upstream, a)), {}

    def _to_a(self, g: Array, b: Array) -> Array:
        return Matmul(not self.transposed, self.scale)._product(g, b)

    def _to_b(self, g: Array, a: Array) -> Array:
        one, other = (g, a) if self.transposed else (a, g)
        return Matmul(scale=self.scale)._product(np.swapaxes(one, -1, -2), other)

    @property
    def _absolute(self) -> Matmul:
        return Matmul(self.transposed, abs(self.scale))

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        (a, b), (a_error, b_error), product = inputs, errors, self._absolute._product
        carried = product(a_error, np.abs(b) + b_error) + product(np.abs(a), b_error)
        terms = product(np.abs(a), np.abs(b))
        return carried + _own(terms, output, a.shape[-1], arithmetic)

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (a, b), (a_error, b_error), to = known.inputs, known.input_errors, self._absolute
        g, rows = upstream, known.output.shape[-2:]
        below_a = _below(self._to_a(g.value, b), to._to_a, g, b, b_error, rows[1], arithmetic)
        below_b = _below(self._to_b(g.value, a), to._to_b, g, a, a_error, rows[0], arithmetic)
        return (below_a, below_b), {}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        of_rows, of_columns = above.any(axis=-1, keepdims=True), above.any(axis=-2, keepdims=True)
        of_b = np.swapaxes(of_columns, -1, -2) if self.transposed else of_columns
        return np.broadcast_to(of_rows, features[0]), np.broadcast_to(of_b, features[1])


def _is_same_row(part: Part) -> bool:
    """Return whether a part consists of one row of each of its matrices, with the same index in all."""
    *lead, row, column = part.fixed
    return row is not None and column is None and not any(index is not None for index in lead)


def _times(matrices: Array, vectors: Array) -> Array:
    """Return the products of matrices (…, T, K) and vectors (…, K)."""
    product: Array = np.matmul(matrices, vectors[..., None])[..., 0]
    return product


@dataclass(frozen=True)
class _Factor:
    """One factor of a product of matrices. The rows of the two factors are multiplied with each other.

    swapped: whether the rows are along the last axis of `input`, and not along the axis before the last.
    """

    input: Input
    swapped: bool

    def at(self, lead: Fixed, column: Array | None = None) -> Array:
        """Return the unperturbed factor, (…, rows, columns), or one column of it."""
        assert isinstance(self.input, Resting)
        fixed = (*lead, column, None) if self.swapped else (*lead, None, column)
        found = self.input.at(fixed)
        return np.swapaxes(found, -1, -2) if self.swapped and column is None else found

    @property
    def part(self) -> Part:
        assert isinstance(self.input, Part)
        return self.input

    @property
    def fixed(self) -> tuple[Fixed, Array | None, Array | None]:
        """The fixed indices of the leading axes, of the rows and of the columns."""
        *lead, first, last = self.part.fixed
        return tuple(lead), *((last, first) if self.swapped else (first, last))

    @property
    def rise(self) -> Array:
        """The change of the factor, with the axis of the rows before the axis of the columns."""
        _, row, column = self.fixed
        rise = self.part.rise
        return np.swapaxes(rise, -1, -2) if self.swapped and row is None and column is None else rise


def _moved(moved: _Factor, other: _Factor, scale: float, output: Resting, transposed: bool) -> Part:
    """Return the part of a product that changes if one factor is perturbed.

    transposed: whether the rows of the perturbed factor are the columns of the product.
    """
    lead, row, column = moved.fixed
    fixed = (*lead, None, row) if transposed else (*lead, row, None)
    flip = transposed and row is None
    if column is not None:  # an outer product with one column of the other factor
        rise, across = moved.part.rise * scale, other.at(lead, column)
        change = rise[..., None] * across if row is not None else rise[..., :, None] * across[..., None, :]
        return Risen(output, fixed, np.swapaxes(change, -1, -2) if flip else change)
    rise = moved.rise
    rows = rise if row is None else rise[..., None, :]
    product = np.matmul(rows, np.swapaxes(other.at(lead), -1, -2)) * scale
    value = product if row is None else product[..., 0, :]
    return Risen(output, fixed, np.swapaxes(value, -1, -2) if flip else value)


def _own(terms: Array, total: Array, count: int, arithmetic: Arithmetic) -> Array:
    """Return a bound on the rounding error of a sum that is afterwards multiplied by the scale c."""
    return arithmetic.summed(terms, total, count) + arithmetic.eps * np.abs(total) + arithmetic.tiny


def _below(
    handed: Array,
    to: Callable[[Array, Array], Array],
    g: Upstream,
    by: Array,
    by_error: Array,
    count: int,
    arithmetic: Arithmetic,
) -> Upstream:
    """Return ∂L/∂input for one input, with a bound on its error.

    handed: ∂L/∂input.
    to: a function that computes ∂L/∂input from ∂L/∂out and the other input. Here, it is applied to absolute
        values.
    g: ∂L/∂out, with a bound on its error.
    by, by_error: the other input, and a bound on its error.
    count: the number of terms in each sum of the product.
    """
    hidden, size = np.maximum(g.hidden, 0.0), np.abs(by)
    sizes = np.abs(g.value) + hidden
    error = (
        to(g.error, size + by_error) + to(sizes, by_error) + _own(to(sizes, size), handed, count, arithmetic)
    )
    return Upstream(handed, error, to(hidden, size))
