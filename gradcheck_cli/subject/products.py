"""Recognise gradients of products in which a factor is transposed, misplaced or not conjugated.

Suppose that the right gradient is R = U A, where A is a parameter, possibly transposed or conjugated. The
other factor is then U = R A⁻¹, and every wrong product of U and A can be computed and compared with the
author's gradient. The right gradient comes from finite differences. Nothing is fitted, so a product that
agrees in every entry is hardly ever a coincidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.wrong_functions import MISSING_CONJUGATE, TRANSPOSED_FACTOR, mirrored
from gradcheck_cli.types import Array

_FEWEST = 4
"""The smallest number of entries of a gradient in which a product is recognised."""

_LARGEST = 512
"""The largest length of an axis of a factor."""

_RTOL, _TELLING = 1e-6, 1e-3
"""The tolerance of a product and the largest error bound that tells anything, both relative to the largest
entry.
"""

_LARGE = 1e-2
"""Phases are compared in entries larger than this share of the largest."""

_CONDITION = 1e6
"""A factor with a larger condition number cannot be divided out."""


@dataclass(frozen=True)
class _Gradient:
    """The gradient of a parameter, which is complex if it was checked as NAME.real and NAME.imag.

    parts: the comparisons that it consists of.
    bound: a bound on the error of `right`.
    """

    name: str
    parts: Sequence[Comparison]
    value: Array
    found: Array
    right: Array
    bound: Array

    @property
    def is_complex(self) -> bool:
        return len(self.parts) > 1

    @property
    def is_known(self) -> bool:
        arrays = (self.bound, self.right, self.found)
        return self.found.size >= _FEWEST and all(bool(np.isfinite(array).all()) for array in arrays)

    @property
    def as_matrix(self) -> _Operand:
        """The right gradient as the unknown operand U. A vector becomes a matrix of one row."""
        return _Operand("U", np.atleast_2d(self.right), np.atleast_2d(self.bound))

    def is_right(self, product: _Operand) -> bool:
        """Return whether a product equals the right gradient."""
        return self._equals(self.right, product)

    def matches(self, product: _Operand) -> bool:
        """Return whether a product equals the author's gradient, and clearly differs from the right one."""
        return self._equals(self.found, product) and not self._equals(self.right, product)

    def _equals(self, array: Array, product: _Operand) -> bool:
        if product.value.shape != np.atleast_2d(array).shape and product.value.shape != array.shape:
            return False
        largest = float(np.abs(array).max())
        allowed = _RTOL * largest + self.bound + product.bound.reshape(array.shape)
        is_close = np.abs(array - product.value.reshape(array.shape)) <= allowed
        return bool(is_close.all()) and float(allowed.max()) <= _TELLING * largest


@dataclass(frozen=True)
class _Operand:
    """An operand of a product, with a bound on its error. text: how numpy writes it."""

    text: str
    value: Array
    bound: Array

    @property
    def turned(self) -> _Operand:
        return _Operand(f"{self.text}.T", mirrored(self.value), mirrored(self.bound))

    @property
    def conjugate(self) -> _Operand:
        return _Operand(f"{self.text}.conj()", self.value.conj(), self.bound)

    def fits(self, other: _Operand) -> bool:
        """Return whether the matrix product with another operand exists."""
        return self.value.shape[-1] == other.value.shape[-2]

    def __matmul__(self, other: _Operand) -> _Operand:
        bound = self.bound @ np.abs(other.value) + np.abs(self.value) @ other.bound
        return _Operand(f"{self.text} @ {other.text}", self.value @ other.value, bound)


def _exactly(text: str, value: Array) -> _Operand:
    return _Operand(text, value, np.zeros(value.shape))


def conjugated(values: Mapping[str, Array], comparisons: Sequence[Comparison]) -> Iterator[Made]:
    """Yield the pattern for each complex gradient that is the conjugate of the right one.

    values: the parameters by name.
    """
    words = "the gradient of {} is the conjugate of the right one"
    for each in _gradients(values, comparisons):
        whole, negative = (_Operand("", value, each.bound) for value in (each.right.conj(), -each.right))
        if each.is_complex and each.is_known and each.matches(whole) and not each.matches(negative):
            yield from _made(each, MISSING_CONJUGATE, words.format(each.name))


def wrong_products(
    values: Mapping[str, Array], comparisons: Sequence[Comparison], left: Sequence[Comparison]
) -> Iterator[Made]:
    """Yield the first pattern that explains each gradient in `left`, if there is one.

    values: the parameters by name.
    comparisons: the comparisons of all tensors.
    """
    gradients = list(_gradients(values, comparisons))
    names = {c.name for c in left}
    for gradient in gradients:
        if gradient.is_known and names & {part.name for part in gradient.parts}:
            for wrong, words in islice(_ways(gradient, gradients), 1):
                yield from _made(gradient, wrong, words)


def _made(gradient: _Gradient, wrong: Wrong, words: str) -> Iterator[Made]:
    return (Made(wrong, "", part.name, place=words) for part in gradient.parts if part.wrong.any())


def _gradients(values: Mapping[str, Array], comparisons: Sequence[Comparison]) -> Iterator[_Gradient]:
    by_name = {c.name: c for c in comparisons if c.name in values}
    for name, c in by_name.items():
        stem, _, part = name.rpartition(".")
        imag = by_name.get(f"{stem}.imag")
        if part == "real" and imag is not None and imag.shape == c.shape:
            value = values[name] + 1j * values[imag.name]
            found, right = c.analytic + 1j * imag.analytic, c.numerical + 1j * imag.numerical
            yield _Gradient(stem, (c, imag), value, found, right, _bound(c) + _bound(imag))
        elif part != "imag" or f"{stem}.real" not in by_name:
            yield _Gradient(name, (c,), values[name], c.analytic, c.numerical, _bound(c))


def _bound(comparison: Comparison) -> Array:
    return np.asarray(comparison.bar + comparison.rounding, dtype=np.float64)


# --- the products ------------------------------------------------------------------------------------------


def _ways(gradient: _Gradient, factors: Sequence[_Gradient]) -> Iterator[tuple[Wrong, str]]:
    """Yield every wrong product that equals the author's gradient, in words and with its pattern."""
    for other in factors:
        factor, shape = _exactly(other.name, other.value), other.value.shape
        if other.is_complex and shape == gradient.right.shape:
            yield from _of_entries(gradient, factor)
        if other is not gradient and len(shape) == 2 and 1 < max(shape) <= _LARGEST:
            yield from _of_matrices(gradient, factor, other.is_complex)
    if gradient.is_complex and _has_other_phases(gradient):
        words = f"each entry of {gradient.name}'s gradient has the right absolute value, but a wrong phase"
        yield MISSING_CONJUGATE, words


def _of_entries(gradient: _Gradient, factor: _Operand) -> Iterator[tuple[Wrong, str]]:
    """Yield the pattern if the factor, or its conjugate, replaces the other in a product of entries."""
    for wrong, right in ((factor, factor.conjugate), (factor.conjugate, factor)):
        phases = np.divide(wrong.value, right.value, out=np.ones_like(wrong.value), where=right.value != 0.0)
        if gradient.matches(_Operand("", gradient.right * phases, gradient.bound)):
            yield MISSING_CONJUGATE, _told(gradient, f"U * {wrong.text}", f"U * {right.text}")


def _of_matrices(gradient: _Gradient, factor: _Operand, is_complex: bool) -> Iterator[tuple[Wrong, str]]:
    """Yield the wrong products of a factor and the U with which a form of the factor gives the right one."""
    if not np.isfinite(factor.value).all() or not np.linalg.cond(factor.value) <= _CONDITION:
        return
    forms = [factor.conjugate.turned, factor.conjugate] if is_complex else []
    forms += [factor, factor.turned]
    for form in forms:
        for right, u in _divided(gradient, form):
            for wrong in filter(gradient.matches, _products((u, u.turned), forms)):
                is_plain = right.replace(".conj()", "") == wrong.text.replace(".conj()", "")
                row = MISSING_CONJUGATE if is_plain else TRANSPOSED_FACTOR
                yield row, _told(gradient, wrong.text, right)


def _divided(gradient: _Gradient, form: _Operand) -> Iterator[tuple[str, _Operand]]:
    """Yield each U for which U A or A U is the right gradient, with the text of that product.

    form: the form A of a factor.
    """
    right, inverse = gradient.as_matrix, _exactly("", np.linalg.pinv(form.value))
    if right.fits(inverse):
        u = replace(right @ inverse, text="U")
        if gradient.is_right(u @ form):
            yield f"U @ {form.text}", u
    if inverse.fits(right):
        u = replace(inverse @ right, text="U")
        if gradient.is_right(form @ u):
            yield f"{form.text} @ U", u


def _products(unknown: Sequence[_Operand], forms: Sequence[_Operand]) -> Iterator[_Operand]:
    for u in unknown:
        for form in forms:
            yield from (one @ two for one, two in ((u, form), (form, u)) if one.fits(two))


def _told(gradient: _Gradient, wrong: str, right: str) -> str:
    return f"the gradient of {gradient.name} is {wrong}, where {right} is right (U is the other factor)"


def _has_other_phases(gradient: _Gradient) -> bool:
    """Return whether all entries have the right absolute value, but phases that no simple mistake explains.

    Simple mistakes are a factor, a conjugate, signs, and a swap of the real and the imaginary parts.
    """
    found, right = gradient.found, gradient.right
    absolute = _Operand("", np.abs(found), gradient.bound)
    if not replace(gradient, found=np.abs(right), right=np.abs(right)).is_right(absolute):
        return False
    large = np.abs(right) > _LARGE * np.abs(right).max()
    f, r = found[large], right[large]
    simple = (f / r, f / r.conj())
    is_turned = all(float(np.abs(each - each[0]).max()) > _TELLING for each in simple)
    parts = [np.abs(np.abs(f.real) - np.abs(each)) > _TELLING * np.abs(r) for each in (r.real, r.imag)]
    return len(f) >= _FEWEST and is_turned and all(2 * np.count_nonzero(each) > len(f) for each in parts)
