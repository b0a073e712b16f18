"""Diagnosis from the arrays alone, for a spec without a network section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.entries_off import entries_off
from gradcheck_cli.diagnose.fit import projected
from gradcheck_cli.diagnose.network import Setting, in_words, likeliest, norms_of, sentences_of, with_overflow
from gradcheck_cli.diagnose.nothing import all_zero
from gradcheck_cli.diagnose.state import Made, State, number_of
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.table import SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_functions import TENSOR_PATTERNS
from gradcheck_cli.diagnose.wrong_scales import SCALED, Sizes
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES
from gradcheck_cli.types import Array

_MOST = 2

_FEWEST = 4
"""The smallest number of known entries that can represent a whole tensor."""

_BY_FAR = 100.0
"""A gradient counts as nonzero if its size is more than this many times its error bound."""


@np.errstate(all="ignore")
def diagnose_arrays(
    comparisons: Sequence[Comparison],
    samples: int | None = None,
    without: frozenset[str] = frozenset(),
    are_all: bool = True,
    share_code: bool = True,
) -> Diagnosis:
    """Diagnose the wrong gradients from the arrays alone, as far as possible.

    are_all: whether `comparisons` covers all tensors. If not, no mistake in the gradient as a whole is named.
    share_code: whether the gradients come from the same code, so that a right one clears what they share.
    """
    targets = {c.name: _target(c) for c in comparisons}
    setting = Setting(None, Sizes(samples), norms_of(targets), without)
    wrong = {name: target for name, target in targets.items() if not target.is_right}
    if are_all and (answers := all_zero(targets, None, without)):
        return Diagnosis(tuple(answers), 0, (), (), "arrays")
    factors = _factors([target for target in wrong.values() if not target.is_nothing])
    ways = {c.name: list(_of_tensor(c, targets, factors, without)) for c in comparisons if c.name in wrong}
    found = list(_explained(ways, targets, are_all))
    answers = _of_fewest_mistakes(in_words(found, setting))
    return Diagnosis(
        tuple(with_overflow(answers, targets, None)),
        len(found) if answers else 0,
        () if answers else tuple(_observed(ways, targets, comparisons if share_code else (), setting)),
        (),
        "arrays",
    )


def _of_fewest_mistakes(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if len(answer.causes) == len(answers[0].causes)]


def _target(comparison: Comparison) -> Target:
    """Return a `Target` in which the finite differences take the place of the correct gradient.

    An entry without a finite difference gets an infinite error bound, unless a derivative along a random
    direction limits the entry's error.
    """
    measured = np.isfinite(comparison.error)
    right = np.where(measured, comparison.numerical, comparison.analytic)
    unmeasured = np.inf if comparison.projected is None else comparison.projected.least
    beyond = np.where(comparison.covered, unmeasured, np.inf)
    bar = np.where(measured, comparison.bar, beyond)
    bound = comparison.rounding + bar  # eps is 1 because the sizes of the summed terms are unknown
    return Target(comparison.name, comparison.analytic, right, bound, comparison.rtol, eps=1.0)


def _explained(
    ways: Mapping[str, Sequence[Made]], targets: Mapping[str, Target], are_all: bool
) -> Iterator[State]:
    """Yield each set of mistakes that explains all wrong tensors.

    If `targets` holds all tensors, a single factor that is common to all wrong tensors comes first.
    """
    if not ways:
        return
    informed = sum(targets[name].found.size for name in ways)
    common = _common_factor(list(ways.values()))
    others = [target for name, target in targets.items() if name not in ways]
    if are_all and common is not None and all(_is_times(target, common) for target in others):
        yield State((Made(SCALED, "", value=common),), informed=informed)
    together: list[tuple[Made, ...]] = [()]
    for each in ways.values():
        together = [(*made, more) for made in together for more in each if number_of((*made, more)) <= _MOST]
    yield from (State(made, informed=informed) for made in together)


def _common_factor(ways: Sequence[Sequence[Made]]) -> float | None:
    factors = [next((m.value for m in each if m.wrong is TENSOR_FACTOR), None) for each in ways]
    return factors[0] if len(set(factors)) == 1 else None


# --- one tensor --------------------------------------------------------------------------------------------


def _of_tensor(
    comparison: Comparison,
    targets: Mapping[str, Target],
    factors: Mapping[str, float],
    without: frozenset[str],
) -> Iterator[Made]:
    """Yield each mistake that explains the gradient of this tensor on its own."""
    target = targets[comparison.name]
    if not target.is_known.all() and not _stands_for_all(comparison, target):
        return
    if target.name in factors:
        yield Made(TENSOR_FACTOR, "", target.name, factors[target.name])
    for wrong in (*TENSOR_MISTAKES, *TENSOR_PATTERNS) if target.is_known.all() else ():
        spoilt = wrong.fits(target, target.right) if wrong.kind not in without else None
        if spoilt is not None and target.matches(spoilt.gradient):
            yield Made(wrong, "", target.name, spoilt.value, spoilt.place)
    if SWAPPED.kind not in without:
        yield from _in_place_of(target, targets)


def _stands_for_all(comparison: Comparison, target: Target) -> bool:
    """Return whether all sampled entries are wrong and there are enough of them to represent the tensor."""
    return comparison.place == "everything" and int(target.is_known.sum()) >= _FEWEST


def _in_place_of(target: Target, targets: Mapping[str, Target]) -> Iterator[Made]:
    """Yield a swap with every other tensor whose correct gradient equals the author's gradient of `target`.

    Only entries with a known correct value are compared.
    """
    for other in targets.values():
        if not other.can_stand_for(target):
            continue
        known = np.count_nonzero(other.is_known)
        if known >= min(_FEWEST, target.found.size) and other.same(target.found, other.right).all():
            yield Made(SWAPPED, "", target.name, place=other.name)


# --- factors -----------------------------------------------------------------------------------------------


def _factors(targets: Sequence[Target]) -> dict[str, float]:
    """Return, by tensor name, the constant factor that turns the correct gradient into the author's.

    Tensors without such a factor are left out. The most precisely known factors are determined first. If a
    factor found for one tensor also fits a later tensor within that tensor's error bounds, both get the same
    factor. In float32, the factors measured for a single mistake may differ by 1e-4.
    """
    factors: dict[str, float] = {}
    for target in sorted(targets, key=_sharpness, reverse=True):
        if not _distinct(target).any():
            continue
        shared = (factor for factor in factors.values() if _is_times(target, factor))
        factor = next(shared, None) or _own_factor(target)
        if factor is not None:
            factors[target.name] = factor
    return factors


def _sharpness(target: Target) -> float:
    """Return how precisely a factor on the tensor is known: the norm of (correct entry / error bound)."""
    distinct = _distinct(target)
    return float(np.linalg.norm(target.right[distinct] / target.bound[distinct]))


def _distinct(target: Target) -> Array:
    """Return a mask, in the tensor's shape, of the known entries whose correct value is clearly not 0."""
    return np.asarray(target.is_known & (np.abs(target.right) > 10.0 * target.bound))


def _is_times(target: Target, factor: float) -> bool:
    return bool(target.same(target.found, factor * target.right)[target.is_known].all())


def _own_factor(target: Target) -> float | None:
    """Return the constant factor that explains this tensor, or None if no factor does.

    The result is None for a tensor with a single entry, since some factor always explains such a tensor.
    """
    known = target.is_known
    if target.right.size < 2:
        return None
    factor = projected(target.found[known], target.right[known])
    if not np.isfinite(factor) or not _is_times(target, factor):
        return None
    return next((whole for whole in _whole(factor) if _is_times(target, whole)), factor)


def _whole(factor: float) -> Iterator[float]:
    """Yield any whole number, and any inverse of a whole number, that nearly equals this factor."""
    for value, inverse in ((factor, False), (1.0 / factor if factor else 0.0, True)):
        whole = float(round(value))
        if whole and abs(value - whole) <= _NEAR_WHOLE * abs(whole):
            yield 1.0 / whole if inverse else whole


_NEAR_WHOLE = 1e-3
"""The largest relative distance from a measured factor to the whole number that may replace it."""


# --- what is known without an answer -----------------------------------------------------------------------


def _observed(
    ways: Mapping[str, Sequence[Made]],
    targets: Mapping[str, Target],
    comparisons: Sequence[Comparison],
    setting: Setting,
) -> Iterator[str]:
    agree = [c.name for c in comparisons if c.name not in ways and not c.wrong.any() and c.agrees.any()]
    if agree and ways:
        are = "is" if len(agree) == 1 else "are"
        share = "it shares" if len(agree) == 1 else "they share"
        right = f"{listed(agree)} {are} right, and so is the code that {share} with {listed(list(ways))}"
        yield as_sentence(right, agree)
    alone = {name: likeliest(each) for name, each in ways.items() if each}
    throughout = {name: made for name, made in alone.items() if made.wrong is SWAPPED or not made.place}
    yield from sentences_of(list(throughout.values()), setting)
    unexplained = [name for name, each in ways.items() if not each and targets[name].is_off_throughout]
    if throughout and unexplained:
        are = "is" if len(unexplained) == 1 else "are"
        yield as_sentence(f"{listed(unexplained)} {are} wrong in another way", unexplained)
    others = {name: target for name, target in targets.items() if name in ways and name not in throughout}
    known = {name: target for name, target in others.items() if target.is_known.all()}
    yield from map(as_sentence, entries_off(known, known))
    yield from _of_stairs([targets[name] for name in others])


def _of_stairs(targets: Sequence[Target]) -> Iterator[str]:
    """Yield a hint if a tensor has a nonzero gradient but most of its entries do not affect the loss."""
    still = [target.name for target in targets if _stands_still(target)]
    if still:
        yield (
            f"The loss does not change when most entries of {listed(still)} change a little, although the "
            "gradient of these entries is not 0: they do not affect "
            "the loss, as behind a clip or an inactive ReLU."
        )


def _stands_still(target: Target) -> bool:
    """Return whether most entries with a nonzero gradient have a finite difference of 0."""
    told = target.is_known & (np.abs(target.found) > _BY_FAR * target.bound)
    still = told & (np.abs(target.right) <= target.bound)
    return int(still.sum()) > max(1, int(told.sum()) // 2)
