"""How far rounding may take a kernel that computes in a type of its own, such as bfloat16.

The kernel runs at points on a short line. Neighbouring points are a few units in the last place apart, so
every point is exact in the kernel's type. Whatever is not smooth along the line is rounding. If the reference
computes gradients, too, it also runs in the kernel's type. What it then differs by from its own results in
float64 is the error of a plain implementation in that type. A right kernel may be off by a small multiple of
either error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.load import Callee
from gradcheck_cli.errors import InputError
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.noise import POINTS, noise_level
from gradcheck_cli.types import Array, precision_of

Point = Mapping[str, Array]
Run = Callable[[Point], Evaluation]

_LENGTHS: tuple[Callable[[float], float], ...] = (
    lambda eps: eps,
    lambda eps: min(eps**0.625, 2.0**-6),
    lambda eps: min(eps**0.625, 2.0**-6),
    lambda eps: 0.7 * 2.0**-7,
)
"""The relative distance between neighbouring points on each line, for the type's machine epsilon.

The points on the first line are as close as the type allows. Saturated numbers, such as a tanh close to 1,
change only on the next two lines. The last line is for small gradients, where numbers are saturated even
more, and for gradients that stand still on the first line, because a narrower type is hidden in the kernel.
Its points are no whole number of that type's stairs apart, which would hide the stairs. Fourth differences
show no curvature on such short lines.
"""

_SMALL = 2.0**-6
"""A gradient is small if it is below this share of the tensor's largest."""

_SIGMAS = 2.0
"""The bound on a rounding error, in standard deviations. `ROUNDING_SAFETY` multiplies it once more."""

_SIGMAS_FORWARD = 12.0
"""The largest deviation of the forward pass from its reference, in standard deviations of rounding."""

_EPS_FORWARD = 8.0
"""The same deviation in units of ε, relative to the root mean square of the loss terms."""

_LAST_DIGITS = 2.0
"""The relative tolerance in units of ε. Rounding a constant or a result costs at most half an ε."""

_LEAST_RTOL = 2e-6
"""The least relative tolerance. Approximations of functions in float32 are off by several ε."""

_IMPRECISE = 4.0
"""A kernel is worth a remark if its rounding errors are this many times those of the reference."""

_HIDDEN = 64.0
"""A kernel is also worth a remark if its rounding errors are this many ε of a typical entry."""

_SATURATED_EPS, _SATURATED = 8.0, 2.0**-12
"""The least bound as a share of the tensor's largest entry, in units of ε and at most.

An entry far down in the tail of an activation is a small difference of saturated numbers. These may be equal
along every line, which hides their rounding.
"""

_UNDERFLOWS = 8.0
"""The most that a gradient may lose to underflow, in units of its type's smallest positive number."""


@dataclass(frozen=True)
class Kernel:
    """A kernel in its own type, and a reference that computes the same forward pass in float64.

    code, reference: the two functions, for messages.
    parameters: everything that the kernel computes its gradients from, in float64, which holds it exactly;
        not its taps, which it computes.
    types: the type of each of these arrays in the kernel.  results: the type of each gradient.
    run: runs the kernel.  terms: returns the loss terms of the reference in float64, (S,).
    plain: runs the reference in the kernel's type and in float64; empty if it computes no gradients.
    """

    code: Callee
    reference: str
    parameters: Point
    types: Mapping[str, np.dtype[Any]]
    results: Mapping[str, np.dtype[Any]]
    run: Run = field(repr=False)
    terms: Callable[[Point], Array] = field(repr=False)
    plain: tuple[tuple[Run, Run], ...] = field(default=(), repr=False)

    def type_of(self, name: str) -> np.dtype[Any]:
        """Return the least precise type that affects the gradient of this parameter."""
        return max((*self.types.values(), self.results[name]), key=lambda dtype: precision_of(dtype).eps)

    @cached_property
    def type(self) -> np.dtype[Any]:
        """The least precise type of all parameters and gradients."""
        return max(map(self.type_of, self.results), key=lambda dtype: precision_of(dtype).eps)

    @property
    def rtol(self) -> float:
        """The default relative tolerance. Rounding beyond that is measured."""
        return max(_LEAST_RTOL, _LAST_DIGITS * precision_of(self.type).eps)

    @property
    def told(self) -> str:
        """A sentence on the two functions that are compared."""
        kernel = f"{self.code} computes in {self.type.name}"
        return f"Differences are taken of {self.reference}, in float64; {kernel}."

    @property
    def remarks(self) -> Iterator[str]:
        """One line for each gradient with rounding errors that are large for the kernel's type.

        If the reference fails in that type, another line says how.
        """
        if self._plain_runs.why_none:
            yield _NO_PLAIN_RUN.format(self.type.name, self._plain_runs.why_none)
        for name, own in ((name, _typical(self._noise(name))) for name in self.results):
            plain, size = _typical(self._plain_error(name)), _typical(self._evaluations[0][0].gradients[name])
            if own > _IMPRECISE * plain > 0.0:
                more = f"about {own / plain:,.0f} times as large as in the reference"
                yield f"rounding errors in the gradient of {name} are {more}, run in {self.type.name}"
            elif own > _HIDDEN * precision_of(self.type).eps * size:
                told = f"rounds to {own / size:.1g} of a typical entry"
                yield f"the gradient of {name} {told}: is a type narrower than {self.type.name} hidden in it?"

    def bounds(self, analytic: Analytic) -> dict[str, Array]:
        """Return bounds on the rounding errors of the kernel's gradients, by parameter name."""
        bounds = {}
        for name, value in analytic.values.items():
            level = np.fmax(self._noise(name), self._plain_error(name)).reshape(value.shape)
            smallest = precision_of(self.results[name]).smallest
            largest = np.max(np.abs(value), initial=0.0, where=np.isfinite(value))
            hidden = min(_SATURATED_EPS * precision_of(self.type_of(name)).eps, _SATURATED) * float(largest)
            bounds[name] = np.fmax(_SIGMAS * level, hidden) + _UNDERFLOWS * smallest
        return bounds

    def refuse_another_forward(self) -> None:
        """Raise an `InputError` if the kernel's loss terms are not those of the reference up to rounding."""
        found, expected = self.run(self.parameters).losses.astype(np.float64), self.terms(self.parameters)
        if found.shape != expected.shape:
            raise self._differ(f"{len(found)} numbers", f"{len(expected)}")
        level = _level([[each.losses for each in line] for line in self._evaluations])
        level = np.fmax(level, _size([(own.losses, wide.losses) for own, wide in self._plain_errors]))
        size = np.sqrt(np.mean(np.square(expected)))
        allowed = _SIGMAS_FORWARD * level + _EPS_FORWARD * precision_of(self.type).eps * size
        allowed += _UNDERFLOWS * max(precision_of(dtype).smallest for dtype in self.types.values())
        off = np.abs(found - expected)
        if not (off <= allowed).all():
            i = int(np.nanargmax(np.where(np.isfinite(off), off - allowed, np.inf)))
            raise self._differ(f"{found[i]:.6g}", f"{expected[i]:.6g} ± {allowed[i]:.2g}", i, len(found))

    def _noise(self, name: str) -> Array:
        return _level([[each.gradients[name] for each in line] for line in self._evaluations])

    def _plain_error(self, name: str) -> Array:
        errors = [(own.gradients, wide.gradients) for own, wide in self._plain_errors]
        return _size([(own[name], wide[name]) for own, wide in errors if name in own and name in wide])

    def _differ(self, found: str, expected: str, i: int = 0, of: int = 1) -> InputError:
        where = f"loss term {i} of {of}" if of > 1 else "the loss"
        return self.code.complain(
            f"does not compute the same as its reference, {self.reference}: "
            f"{where} is {found}, but the reference gives {expected}",
            "differences are taken of the reference, so it must take the same arguments and return the same",
        )

    @cached_property
    def _evaluations(self) -> Sequence[Sequence[Evaluation]]:
        """The kernel's results along each line, (len(_LENGTHS), POINTS)."""
        return [[self.run(point) for point in self._line(i)] for i in range(len(_LENGTHS))]

    @property
    def _plain_errors(self) -> Sequence[tuple[Evaluation, Evaluation]]:
        """The results of the reference in the kernel's type and in float64, at points of the second line.

        The sequence is empty if the reference cannot compute gradients in that type.
        """
        return self._plain_runs.results

    @cached_property
    def _plain_runs(self) -> _PlainRuns:
        try:
            with may_fail(Exception):
                runs = [(own(point), wide(point)) for own, wide in self.plain for point in self._line(1)]
                return _PlainRuns(runs)
        except RefusedError as refused:
            return _PlainRuns((), str(refused))

    def _line(self, which: int) -> Iterator[dict[str, Array]]:
        """Yield neighbouring points, which lie on a line and are exact in the kernel's types.

        From point to point, every entry moves toward 0 by 0, 1 or 2 times the same distance. It would leave
        the type's grid if it moved away from 0 beyond a power of 2.
        """
        rng = np.random.default_rng(which)
        steps = {
            name: rng.integers(0, 3, array.shape) * _units(self.types[name], _LENGTHS[which])
            for name, array in self.parameters.items()
        }
        for i in range(POINTS):
            yield {
                name: _toward_zero(array, i * steps[name], self.types[name])
                for name, array in self.parameters.items()
            }


@dataclass(frozen=True)
class _PlainRuns:
    """Results of the reference in the kernel's type and in float64, or how the reference fails."""

    results: Sequence[tuple[Evaluation, Evaluation]]
    why_none: str = ""


_NO_PLAIN_RUN = "rounding is only measured on the kernel, since the reference does not run in {}: {}"


def _units(dtype: np.dtype[Any], length: Callable[[float], float]) -> int:
    eps = precision_of(dtype).eps
    return max(1, round(length(eps) / eps))


def _toward_zero(array: Array, units: Array, dtype: np.dtype[Any]) -> Array:
    """Return the array with each entry moved by some units in its last place, but at most halved."""
    precision = precision_of(dtype)
    _, exponent = np.frexp(array)
    unit = np.maximum(np.ldexp(precision.eps, exponent - 1), precision.smallest)
    moved = array - np.sign(array) * np.minimum(units * unit, 0.5 * np.abs(array))
    return np.asarray(moved.astype(dtype).astype(np.float64))


def _level(lines: Sequence[Sequence[Array]]) -> Array:
    """Return the noise of every component along the lines, (K,), but no less than that of a typical one."""
    *short, long = (np.stack([np.asarray(v, np.float64).ravel() for v in line]) for line in lines)
    level = np.max([noise_level(values) for values in short], axis=0)
    stands_still, size = np.ptp(short[0], axis=0) == 0, np.abs(short[0][0])
    is_small = size < _SMALL * np.max(size, initial=0.0, where=np.isfinite(size))
    hides = stands_still | is_small
    return _no_less_than_typical(np.where(hides, np.fmax(level, noise_level(long)), level))


def _size(errors: Sequence[tuple[Array, Array]]) -> Array:
    """Return the root mean square of each component's errors, but no less than that of a typical one."""
    if not errors:
        return np.zeros(())
    off = [np.asarray(own, np.float64).ravel() - np.asarray(wide, np.float64).ravel() for own, wide in errors]
    return _no_less_than_typical(np.sqrt(np.mean(np.square(off), axis=0)))


def _no_less_than_typical(level: Array) -> Array:
    return np.fmax(level, _typical(level))


def _typical(level: Array) -> float:
    """Return the root mean square of the finite numbers; 0 if there are none."""
    finite = level[np.isfinite(level)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
