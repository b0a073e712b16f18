"""What arrays alone can say, of code whose network nobody described."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcheck_cli.compare import ERROR_BARS, Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.network import Setting, in_words, norms_of, with_overflow
from gradcheck_cli.diagnose.observe import constant_ratios, lines_off
from gradcheck_cli.diagnose.state import Made, State, number_of
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.table import SWAPPED, TENSOR_FACTOR
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_scales import SCALED, Sizes, is_same
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES

_MOST = 2


@np.errstate(all="ignore")
def diagnose_arrays(
    comparisons: Sequence[Comparison], samples: int | None = None, without: frozenset[str] = frozenset()
) -> Diagnosis:
    """Why these gradients are wrong, as far as they and their numerical values tell by themselves."""
    targets = {c.name: _target(c) for c in comparisons}
    measured = {c.name: targets[c.name] for c in comparisons if np.isfinite(c.error).all()}
    wrong = {name: target for name, target in targets.items() if not target.is_right}
    answers: list[Answer] = []
    tried = 0
    if wrong and wrong.keys() <= measured.keys():
        found = list(_explained(wrong, measured, without))
        tried = len(found)
        answers = in_words(found, Setting(None, Sizes(samples), norms_of(targets), without))
    return Diagnosis(
        tuple(with_overflow(answers, targets, None)),
        tried,
        () if answers else tuple(map(as_sentence, _observed(wrong, measured))),
        (),
        "arrays",
    )


def _target(comparison: Comparison) -> Target:
    """Held against differences, with their error bars."""
    right = np.where(np.isfinite(comparison.error), comparison.numerical, comparison.analytic)
    bar = np.where(np.isfinite(comparison.error), ERROR_BARS * comparison.error, np.inf)
    bound = comparison.rounding + bar  # no measure of what it is summed from, hence the eps of 1
    return Target(comparison.name, comparison.analytic, right, bound, comparison.rtol, eps=1.0)


def _explained(
    wrong: Mapping[str, Target], measured: Mapping[str, Target], without: frozenset[str]
) -> Iterator[State]:
    """Mistakes that explain all tensors that are wrong: one factor of everything first."""
    common = _common_factor(wrong)
    if common is not None and len(wrong) == len(measured):
        yield State((Made(SCALED, "", value=common),), informed=sum(t.found.size for t in wrong.values()))
    ways: list[tuple[Made, ...]] = [()]
    for target in wrong.values():
        each = list(_of_tensor(target, measured, without))
        ways = [(*way, made) for way in ways for made in each if number_of((*way, made)) <= _MOST]
    yield from (State(way, informed=sum(t.found.size for t in wrong.values())) for way in ways)


def _common_factor(wrong: Mapping[str, Target]) -> float | None:
    factors = [_factor(target) for target in wrong.values()]
    if any(factor is None for factor in factors):
        return None
    first = factors[0]
    same = all(
        is_same(factor or 0.0, first or 0.0) or np.isclose(factor or 0, first or 0, rtol=1e-5)
        for factor in factors
    )
    return _rounded(first) if same and first is not None else None


def _factor(target: Target) -> float | None:
    size = float(np.square(target.right).sum())
    factor = float((target.found * target.right).sum()) / size if size > 0 else np.nan
    told = np.abs(target.right) > 10.0 * target.bound
    return factor if np.isfinite(factor) and told.any() and target.matches(factor * target.right) else None


def _rounded(factor: float) -> float:
    """A whole number or its inverse, if it is one to within what differences tell."""
    for whole in (factor, 1.0 / factor) if factor else ():
        if round(whole) and abs(whole - round(whole)) <= 1e-6 * abs(whole):
            return float(round(whole)) if whole is factor else 1.0 / round(whole)
    return factor


def _of_tensor(target: Target, measured: Mapping[str, Target], without: frozenset[str]) -> Iterator[Made]:
    """What may have been done to this tensor alone."""
    factor = _factor(target)
    if factor is not None and target.right.size > 1:
        yield Made(TENSOR_FACTOR, "", target.name, _rounded(factor))
    for wrong in TENSOR_MISTAKES:
        spoilt = wrong.fits(target, target.right) if wrong.kind not in without else None
        if spoilt is not None and target.matches(spoilt.gradient):
            yield Made(wrong, "", target.name, spoilt.value, spoilt.place)
    for other in measured.values():
        if (
            other.name != target.name
            and other.right.shape == target.right.shape
            and target.matches(other.right)
        ):
            yield Made(SWAPPED, "", target.name, place=other.name)


def _observed(wrong: Mapping[str, Target], targets: Mapping[str, Target]) -> Iterator[str]:
    right = [name for name, target in targets.items() if name not in wrong and target.finite.all()]
    if right and wrong:
        are = "is" if len(right) == 1 else "are"
        yield f"{listed(right)} {are} right, and so is what they share with {listed(list(wrong))}"
    known = {name: target for name, target in wrong.items() if name in targets}
    yield from constant_ratios(known)
    yield from lines_off(known)
