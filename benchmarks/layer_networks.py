"""Check one random network of any kind of layer, with right gradients and with planted mistakes.

A mistake counts if it changes a tensor by more than 1e-5 of the largest entry, and by more than 32 times the
rounding of right gradients. That rounding is measured against backprop in extended precision, and needs no
bound of the check. If the mistake changes nothing in extended precision, the change is rounding, too. A
change that stays between the slopes that meet at a kink does not count either.
On a kink, right gradients under other conventions are checked as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from conventions import OWN, USUAL, Hull, by_textbook, choices, gradients_under
from drawn_layers import FEATURES
from judged import Undiagnosed
from mistakes import VISIBLE, effect
from random_layers import TWISTS, kinds_of, random_layers
from sides_at_kinks import some_sides_give
from spoilt import SPOILS
from wrong_steps import Effect, wrong_steps

from gradcheck_cli import InputError, Report, Spec, Verdict
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.network import gradients
from gradcheck_cli.numerical.looks import Remembered
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.subject.network import NetworkSubject, network_subject

Gradients = dict[str, np.ndarray]

MOST_STEPS = 16
"""The most wrong backward steps to plant in one network."""

_ROUNDINGS = 32.0
"""A mistake counts if it changes a tensor by more than this many times the observed rounding error.

Right gradients that others compute, in another order or with other formulas, may round several times worse.
"""

_OF_ITSELF = 0.1
"""The share of its effect that a mistake must have in extended precision. If not, the effect is rounding."""

_VANISHING = 1e-13
"""A tensor is as good as 0 if all its gradients, right and wrong, are below this share of the largest one.

Next to the other gradients, losses in float64 do not depend on it. The report counts such entries as 0.
"""

_POINTS = 5
_APART = 2.0**-10
"""The relative distance between the points at which rounding is observed."""


@dataclass(frozen=True)
class Job:
    """A network of the benchmark: its main kind of layer, its twist (such as float32) and its seed."""

    kind: str
    twist: str
    seed: int

    @property
    def said(self) -> str:
        return f"{self.kind}, {self.twist}, seed {self.seed}"


def jobs(count: int, seed: int) -> list[Job]:
    """Return this many networks, which go through the kinds of layers and the twists in turn."""
    kinds, twists = list(FEATURES), list(TWISTS)
    return [Job(kinds[i % len(kinds)], twists[i // len(kinds) % len(twists)], seed + i) for i in range(count)]


@dataclass
class LayerTally:
    """Verdicts on networks of any kind of layer.

    rights: (twist, verdict) → right networks.  kinds: how many networks have each kind of layer or loss.
    chosen: (sort of convention, verdict) → right gradients of networks on kinks under another convention.
    plants: (group of mistakes, verdict) → planted mistakes.  remarks: every miss, with what reproduces it.
    """

    rights: Counter[tuple[str, str]] = field(default_factory=Counter)
    chosen: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    plants: Counter[tuple[str, str]] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def __iadd__(self, other: LayerTally) -> LayerTally:
        self.rights += other.rights
        self.chosen += other.chosen
        self.kinds += other.kinds
        self.plants += other.plants
        self.remarks += other.remarks
        return self


@dataclass(frozen=True)
class Checked:
    """A network whose right gradients have been checked. All later checks reuse the same differences."""

    spec: Spec
    subject: NetworkSubject
    looks: Remembered

    @classmethod
    def of(cls, spec: Spec) -> Checked:
        subject = network_subject(spec, build_problem(spec))
        return cls(spec, Undiagnosed.of(subject), Remembered())

    @property
    def right(self) -> Mapping[str, np.ndarray]:
        return self.subject.analytic.values

    def report(self, values: Mapping[str, np.ndarray]) -> Report:
        """Return the report on these gradients."""
        typed = {name: values[name].astype(self.subject.analytic.dtypes[name]) for name in self.right}
        analytic = Analytic(typed, self.subject.analytic.dtypes, "a benchmark")
        return replace(self.subject, analytic=analytic).check(self.spec.check, looks=self.looks)

    def excuse(self, wrong: Mapping[str, np.ndarray], effect_of: Effect, hull: Hull) -> str:
        """Return the reason why the check need not call these gradients wrong; nothing if it must.

        effect_of: returns the effect of the mistake in extended precision.
        """
        visible = [name for name, right in self.right.items() if _is_visible(wrong[name], right)]
        if not visible:
            return "invisible"
        shown = [name for name in visible if not self._is_hidden(name, wrong[name])]
        if not shown:
            return "hidden by rounding"
        largest = max(np.abs(right).max() for right in self.right.values())
        if all(self._size(name, wrong[name]) <= _VANISHING * largest for name in shown):
            return "vanishing"
        exact = effect_of()
        if exact and all(self._is_rounding(name, wrong[name], exact[name]) for name in shown):
            return "made of rounding"
        return "a usual convention" if hull.holds(wrong, self.right) else ""

    def _size(self, name: str, wrong: np.ndarray) -> float:
        """Return the size of the largest entry of a tensor, right or wrong."""
        return float(max(np.abs(wrong).max(), np.abs(self.right[name]).max()))

    def _is_hidden(self, name: str, wrong: np.ndarray) -> bool:
        """Return whether the mistake changes a tensor no more than the rounding of right gradients does."""
        return bool(np.abs(wrong - self.right[name]).max() <= _ROUNDINGS * self.rounding[name])

    def _is_rounding(self, name: str, wrong: np.ndarray, exact: np.ndarray) -> bool:
        """Return whether the mistake hardly changes a tensor in extended precision, given that change.

        A gradient that is 0 everywhere shows no rounding of its own. Any smaller change than the rounding in
        the other tensors counts as rounding there.
        """
        change, real = np.abs(wrong - self.right[name]).max(), np.abs(exact).max()
        is_zero = not self.right[name].any() and not self.rounding[name]
        below = is_zero and change <= _ROUNDINGS * max(self.rounding.values())
        return bool(below or real <= _OF_ITSELF * change)

    def is_rounding(self, name: str) -> bool:
        """Return whether the right gradient of a tensor is nothing but rounding."""
        size = np.abs(self.right[name]).max()
        exact = np.abs(self._exact[name]).max()
        return bool(size <= _ROUNDINGS * self.rounding[name] or exact <= _OF_ITSELF * size)

    @cached_property
    def _exact(self) -> Gradients:
        return _gradients(self.whole, self.whole.parameters, np.longdouble)

    @property
    def hull(self) -> Hull:
        """The gradients under all choices of sides at kinks."""
        return Hull.of(self.whole) if self.subject.objective.kinks.any else Hull({}, {})

    def is_between_sides(self, wrong: Mapping[str, np.ndarray], hull: Hull) -> bool:
        """Return whether every wrong entry lies in the hull, or between the extremes of all choices of sides.

        The random choices of a hull hardly ever reach the extremes. Finding these takes longer.
        """
        return bool(hull.low) and some_sides_give(self.whole, wrong, self.right, hull.low, hull.high)

    @cached_property
    def rounding(self) -> dict[str, float]:
        """The observed rounding error of right gradients of each tensor, which no error analysis enters.

        At points near the parameters, right gradients are computed in extended precision, and twice in the
        type of the network: as gradcheck does, and by textbook formulas. The observed error is the largest
        difference of any entry, in the median over the points, which nearly all lie off the kinks.
        """
        problem, dtype = self.whole, self.subject.problem.dtype
        rng, each = np.random.default_rng(0), []
        for _ in range(_POINTS):
            near = {
                name: (value * (1.0 + _APART * rng.uniform(-1.0, 1.0, value.shape))).astype(dtype)
                for name, value in problem.parameters.items()
            }
            exact = _gradients(problem, near, np.longdouble)
            both = _gradients(problem, near, dtype), by_textbook(problem, near, dtype)
            each.append(
                {name: max(np.abs(one[name] - exact[name]).max() for one in both) for name in self.right}
            )
        return {name: float(np.median([one[name] for one in each])) for name in self.right}

    @cached_property
    def whole(self) -> Problem:
        """The problem, with every checked value among the parameters."""
        return self.subject.problem.with_shifts(self.subject.problem.checked_values)


def _gradients(problem: Problem, parameters: Mapping[str, np.ndarray], dtype: Any) -> Gradients:
    """Return backprop in this arithmetic."""
    at = {name: value.astype(dtype) for name, value in parameters.items()}
    return gradients(problem.network, at, problem.x.astype(dtype), problem.target.astype(dtype))


def _is_visible(wrong: np.ndarray, right: np.ndarray) -> bool:
    return not bool(np.abs(wrong - right).max() <= VISIBLE * np.abs(right).max())


def examine(job: Job) -> LayerTally:
    """Return the verdicts on the right gradients of one network, and on every mistake planted in it."""
    tally, raw = LayerTally(), random_layers(job.seed, job.kind, job.twist)
    with np.errstate(all="ignore"):
        try:
            checked = Checked.of(Spec.model_validate(raw))
            report = checked.report(checked.right)
        except InputError as error:
            tally.rights[job.twist, "no finite loss"] += 1
            if not any(word in str(error) for word in ("finite", "overflow", "mean over nothing")):
                tally.remarks.append(f"{job.said}: refused: {error}")
            return tally
        except UntrustedReferenceError as error:
            tally.rights[job.twist, "contradiction"] += 1
            tally.remarks.append(f"{job.said}: {error}")
            return tally
        if not any(value.any() for value in checked.right.values()):
            tally.rights[job.twist, "no gradient"] += 1
            return tally
        tally.kinds.update(set(kinds_of(raw)))
        tally.rights[job.twist, report.verdict.value] += 1
        if report.verdict is not Verdict.AGREES:
            tally.remarks.append(f"{job.said}: right, and {report.verdict}{_because(report)}")
        if report.verdict is not Verdict.WRONG:
            _choose(job, checked, tally)
            _plant(job, checked, tally)
    return tally


def _choose(job: Job, checked: Checked, tally: LayerTally) -> None:
    """Check right gradients under other conventions at the kinks of activations and maxima."""
    if not checked.subject.objective.kinks.in_activations:
        return
    for sort, choice in choices(np.random.default_rng(job.seed)):
        values = gradients_under(choice, checked.whole, checked.subject.problem.dtype)
        verdict = checked.report(values).verdict
        tally.chosen[sort, verdict.value] += 1
        if verdict is Verdict.WRONG or (sort == USUAL and verdict is Verdict.UNRESOLVED):
            how = f"slope on the right {choice.right:.3g}, tie {choice.tie}"
            tally.remarks.append(f"{job.said}: right under {sort} ({how}), and {verdict}")


def _plant(job: Job, checked: Checked, tally: LayerTally) -> None:
    hull, rng = checked.hull, np.random.default_rng(job.seed)
    for group, name, wrong, effect_of in _mistakes(checked, rng):
        if excuse := checked.excuse(wrong, effect_of, hull):
            tally.plants[group, excuse] += 1
            continue
        reason = ""
        try:
            report = checked.report(wrong)
            verdict, reason = report.verdict.value, _because(report)
        except UntrustedReferenceError:
            verdict = "contradiction"
        if verdict == Verdict.UNRESOLVED.value and hull.wide.holds(wrong, checked.right):
            verdict = "a usual convention"
        if verdict == Verdict.AGREES.value and checked.is_between_sides(wrong, hull):
            verdict = "a usual convention"
        tally.plants[group, verdict] += 1
        if verdict not in (Verdict.WRONG.value, "a usual convention"):
            off = effect(wrong, checked.right)
            tally.remarks.append(f"{job.said}: '{name}' {verdict}{reason}, effect {off:.1e}")


def _because(report: Report) -> str:
    """Return what leaves entries undecided, in parentheses; nothing if the verdict is not "unresolved"."""
    if report.verdict is not Verdict.UNRESOLVED:
        return ""
    undecided = [c for c in report.comparisons if c.unresolved.any()]
    reasons = {
        "kinks": any(report.kinks and np.isnan(c.numerical[c.unresolved]).any() for c in undecided),
        "rounding": any(c.lost.any() for c in undecided),
        "error bars": any((c.unresolved & (c.difference > c.tolerance)).any() for c in undecided),
    }
    found = [reason for reason, applies in reasons.items() if applies] or ["no numerical value"]
    return f" ({', '.join(found)})"


def _mistakes(checked: Checked, rng: np.random.Generator) -> Iterator[tuple[str, str, Gradients, Effect]]:
    """Yield mistakes with their group, name and effect: spoilt tensors, and wrong backward steps.

    A tensor that is nothing but rounding, as a bias below batch normalisation is, is not spoilt.
    """
    right = {name: value.astype(np.float64) for name, value in checked.right.items()}
    telling = [name for name in right if not checked.is_rounding(name)]
    for how, spoil in SPOILS.items() if telling else ():
        name = str(rng.choice(telling))
        wrong = {**right, name: spoil(right[name], rng)}
        yield "spoilt tensors", f"{name}: {how}", wrong, partial(_changes, wrong, right)
    for what, made, effect_of in wrong_steps(checked.subject.problem, rng, MOST_STEPS):
        yield "wrong backward steps", what, {**right, **made}, effect_of


def _changes(wrong: Gradients, right: Gradients) -> Gradients:
    return {name: wrong[name] - value for name, value in right.items()}


# --- the tables --------------------------------------------------------------------------------------------

COLUMNS = ("agrees", "unresolved", "wrong", "contradiction")
EXCUSES = ("invisible", "hidden by rounding", "vanishing", "made of rounding", "a usual convention")


def run(pool: ProcessPoolExecutor, count: int, seed: int) -> bool:
    """Check networks of every kind of layer, and print the tables; return whether a verdict is false."""
    print(f"\n{count} networks of every kind of layer")
    tally = LayerTally()
    for each in pool.map(examine, jobs(count, seed)):
        tally += each
        print(*(f"  {remark}" for remark in each.remarks), sep="\n", end="\n" * bool(each.remarks))
    print_tables(tally)
    return failed(tally)


def print_tables(tally: LayerTally) -> None:
    print(f"\n{'right gradients':>22}  " + "  ".join(f"{each:>13}" for each in COLUMNS))
    for twist in [*TWISTS, "all"]:
        of = list(TWISTS) if twist == "all" else [twist]
        counts = (sum(tally.rights[each, column] for each in of) for column in COLUMNS)
        print(f"{twist:>22}  " + "  ".join(f"{count:>13}" for count in counts))
    print(f"\n{'planted':>22}  " + "  ".join(f"{each:>13}" for each in COLUMNS) + f"  {'passed':>7}  excused")
    groups = sorted({group for group, _ in tally.plants})
    for group in [*groups, "all"]:
        of = groups if group == "all" else [group]
        counts = [sum(tally.plants[each, column] for each in of) for column in COLUMNS]
        excused = (f"{sum(tally.plants[each, excuse] for each in of)} {excuse}" for excuse in EXCUSES)
        share = f"{counts[0] / max(sum(counts), 1):>7.3%}"
        print(f"{group:>22}  " + "  ".join(f"{n:>13}" for n in counts) + f"  {share}  {', '.join(excused)}")
    print("\nnetworks with each kind: " + ", ".join(f"{kind} {n}" for kind, n in sorted(tally.kinds.items())))
    for sort in (USUAL, OWN):
        counts = ", ".join(f"{tally.chosen[sort, verdict]} {verdict}" for verdict in Verdict)
        print(f"right at kinks under {sort}: {counts}")
    left_out = {why: sum(n for (_, each), n in tally.rights.items() if each == why) for why in LEFT_OUT}
    print("left out: " + ", ".join(f"{n} with {why}" for why, n in left_out.items()))


LEFT_OUT = ("no finite loss", "no gradient")


def failed(tally: LayerTally) -> bool:
    """Return whether a right gradient was called wrong, a mistake passed, or a check contradicted itself."""
    false_alarms = sum(n for (_, verdict), n in tally.rights.items() if verdict in ("wrong", "contradiction"))
    false_alarms += sum(n for (_, verdict), n in tally.chosen.items() if verdict == "wrong")
    return bool(false_alarms or sum(n for (_, verdict), n in tally.plants.items() if verdict == "agrees"))
