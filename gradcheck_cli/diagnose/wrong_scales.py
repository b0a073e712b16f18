"""Gradients that are a constant multiple of the correct gradients, and the names of such factors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from gradcheck_cli.diagnose.families import ACCUMULATED, ENTRIES, SCALE, Family
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.wrong_biases import AVERAGED
from gradcheck_cli.problem.problem import Problem

SAME = 1e-7
"""The largest relative difference at which two factors count as equal."""


def _wrong(kind: str, sentence: str, wrong: str, right: str, code: str, family: Family = SCALE) -> Wrong:
    return Wrong(kind, family, sentence, wrong, right, "∂L/∂a", "factor", code)


class Sizes(NamedTuple):
    """The numbers of samples and of outputs, if known, and whether the loss averages over each of them."""

    samples: int | None = None
    outputs: int | None = None
    over_samples: bool = False
    over_outputs: bool = False

    @classmethod
    def of(cls, problem: Problem) -> Sizes:
        over_outputs = problem.reduction == "mean" and problem.network.loss.per_output
        return cls(len(problem.x), problem.network.outputs[-1], problem.reduction != "sum", over_outputs)


class Named(NamedTuple):
    """A factor that has a name.

    averages: whether the factor comes from a mean over samples or outputs. Such a mean does not affect a
        penalty.
    """

    value: float
    wrong: Wrong
    averages: bool = False


def _means(
    letter: str, count: int | None, over: bool, noun: str, refined_by: frozenset[str] = frozenset()
) -> Iterator[Named]:
    """Yield the factors that result if a mean over samples or outputs is missing or is taken twice.

    letter: the symbol for the number of samples or outputs, "N" or "C".
    count: the number of samples or outputs.
    over: whether the loss averages over these samples or outputs.
    noun: "samples" or "outputs".
    refined_by: the kinds of mistakes that say more precisely that a mean is taken twice.
    """
    if count is None:
        return
    sum_of = f"Σ over {noun}"
    if over:
        missing = (
            f"the loss averages over the {count} {noun}, but {{it}} does not",
            sum_of,
            f"1/{letter} {sum_of}",
        )
        twice = (
            f"{{it}} is averaged over the {count} {noun} twice",
            f"1/{letter}² {sum_of}",
            f"1/{letter} {sum_of}",
        )
    else:
        missing = (
            f"{{it}} is too large by a factor of {count}, the number of {noun}",
            f"{letter} {sum_of}",
            sum_of,
        )
        twice = (
            f"{{it}} averages over the {count} {noun}, but the loss does not",
            f"1/{letter} {sum_of}",
            sum_of,
        )
    kept = "C" if letter == "N" else "N"
    none = _wrong(f"missing 1/{letter}", *missing, f"dL_da = 2 * (a - y) / {kept}")
    again = _wrong(f"1/{letter} twice", *twice, f"dL_dw = delta.T @ a_h / {letter}")
    yield Named(float(count), none, averages=True)
    yield Named(1.0 / count, replace(again, refined_by=refined_by), averages=True)


_TWICE, _HALF = "dL_da = 4 * (a - y) / (N * C)", "dL_da = (a - y) / (N * C)"


def _factors(sizes: Sizes) -> Iterator[Named]:
    """Yield each factor that has a name, starting with the most likely factor."""
    sign = _wrong("sign", "{it} has the wrong sign", "−∂L", "∂L", "dL_da = 2 * (y - a) / (N * C)")
    yield Named(-1.0, sign)
    over_samples = _means("N", sizes.samples, sizes.over_samples, "samples", frozenset({AVERAGED}))
    over_outputs = _means("C", sizes.outputs, sizes.over_outputs, "outputs")
    plain = (
        Named(2.0, _wrong("factor 2", "{it} is twice what it should be", "2 · ∂L", "∂L", _TWICE)),
        Named(0.5, _wrong("factor 1/2", "{it} is half of what it should be", "½ · ∂L", "∂L", _HALF)),
    )
    # Averaging over the outputs is an unlikely mistake if the loss does not average over them.
    yield from (
        (*over_samples, *over_outputs, *plain)
        if sizes.over_outputs
        else (*over_samples, *plain, *over_outputs)
    )


_BATCHES = tuple(2**k for k in range(2, 11))
"""Common batch sizes."""


def _of_another_count(factor: float, sizes: Sizes) -> Iterator[Wrong]:
    """Yield a name for the factor if it comes from a wrong number of samples, such as N − 1 instead of N."""
    count = sizes.samples
    if count is None or not (sizes.over_samples or sizes.outputs is None):
        return
    for other in (count - 1, *_BATCHES):
        if other > 1 and is_same(factor, count / other):
            sentence = f"{{it}} is divided by {other}, but there are {count} samples"
            divisor = "(N − 1)" if other == count - 1 else str(other)
            code = "dL_da = 2 * (a - y) / ((N - 1) * C)"
            yield _wrong("mean over another number", sentence, f"1/{divisor} Σₙ", "1/N Σₙ", code)
            return


_MOST_TIMES = 1000

_PIXEL = 255
"""The largest value of a pixel in 8 bits. It is a more likely factor than a number of backward passes."""


def _accumulated(times: int) -> Wrong:
    pixels = ", or as if only the forward pass divided the pixels by 255" if times == _PIXEL else ""
    sentence = f"{{it}} is {times} times too large, as if it had been accumulated {times} times{pixels}"
    code = "dL_da = 5 * dL_da  # five backward passes add up if nothing resets the gradients"
    return _wrong("accumulated", sentence, f"∂L added {times} times", "∂L", code, ACCUMULATED)


_LEARNING_RATE = "dL_dw = 0.07 * delta.T @ a_h  # the learning rate belongs to the update"
_ANY_FACTOR = replace(
    _wrong("factor", "{it} is {value} times what it should be", "{value} · ∂L", "∂L", _LEARNING_RATE),
    freedom=2,
)


def named(
    factor: float,
    sizes: Sizes,
    norm: float = 0.0,
    on_penalty: bool = False,
    without: frozenset[str] = frozenset(),
) -> list[Wrong]:
    """Return every name that this factor may have, starting with the most likely name.

    If no name fits, the only name is "factor".

    norm: the norm of the author's gradient, which is a round number after clipping; 0 if unknown.
    on_penalty: whether the factor also applies to a penalty, unlike a mean over samples or outputs.
    without: the kinds of mistakes to leave out.
    """
    names = [each for each in _factors(sizes) if each.value != 1.0 and is_same(factor, each.value)]
    if 2.5 < factor <= _MOST_TIMES and is_same(factor, round(factor)):
        names.append(Named(factor, _accumulated(round(factor))))
    if not names:
        names += (Named(factor, wrong) for wrong in _of_another_count(factor, sizes))
    if 0 < factor < 1 and is_round(norm):
        names.append(Named(factor, _clipped(norm)))
    if on_penalty and factor < _MANY_TIMES:
        names.sort(key=lambda each: each.averages)
    return [each.wrong for each in names if each.wrong.kind not in without] or [_ANY_FACTOR]


_MANY_TIMES = 10.0
"""Gradients are rarely accumulated this many times or more by mistake."""


def is_round(norm: float) -> bool:
    """Return whether the norm has at most two significant digits, as a limit chosen by hand would."""
    return 0 < norm < math.inf and math.isclose(norm, float(f"{norm:.2g}"), rel_tol=SAME)


def _clipped(norm: float) -> Wrong:
    sentence = f"{{it}} is scaled to a norm of {norm:.2g}, as in gradient clipping"
    code = "dL_dw = dL_dw * 0.01 / np.linalg.norm(dL_dw)"
    return Wrong("clipped by norm", ENTRIES, sentence, f"∂L · {norm:.2g} / ‖∂L‖", "∂L", "", "factor", code)


def is_same(factor: float, other: float) -> bool:
    """Return whether two factors are equal up to a relative difference of `SAME`."""
    return math.isclose(factor, other, rel_tol=SAME)


SCALED = Mistake(
    _ANY_FACTOR.kind,
    SCALE,
    _ANY_FACTOR.sentence,
    _ANY_FACTOR.wrong,
    _ANY_FACTOR.right,
    _ANY_FACTOR.factor,
    _ANY_FACTOR.unknown,
    _ANY_FACTOR.code,
    freedom=_ANY_FACTOR.freedom,
    part=Part.SCALE,
    step=lambda site, factor: factor * site.dL_da,
    planted=1.7,
)
"""A factor of any value on a layer's ∂L/∂a, and therefore on the gradients of this and all lower layers."""

_ANY = Sizes(11, 3, over_samples=True, over_outputs=True)

NAMES: tuple[Wrong, ...] = (
    *(each.wrong for each in _factors(_ANY)),
    *_of_another_count(1.1, _ANY),
    _accumulated(5),
    _clipped(0.01),
)
"""Every name that a factor may have, with example sizes filled in."""
