"""Check code along random directions if checking every entry would be too slow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.directions.projections import Projector
from gradcheck_cli.directions.search import Survey
from gradcheck_cli.entries.judge import Judge, Masks
from gradcheck_cli.numerical.estimate import Estimate, Progress, certify
from gradcheck_cli.numerical.reference import LiteralDifferences
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.report import Report
from gradcheck_cli.types import Array


def check_along_directions(
    judge: Judge, code: ForeignObjective, progress: Progress | None, way: str
) -> Report:
    """Check every tensor along a few directions, and single entries where these disagree.

    way: the sentence in the report that explains this choice.
    """
    subject, how = judge.subject, judge.how
    literal = LiteralDifferences(code, SCHEMES[how.scheme], how.step, progress)
    rng = np.random.default_rng(how.seed)
    comparisons: list[Comparison] = []
    on_kinks: Masks = {}
    for name, analytic in subject.analytic.values.items():
        if progress:
            progress.doing(f"{name} along random directions")
        confirm = _Confirm(literal, judge, name)
        projector = Projector(code, name, progress=progress)
        survey = Survey(projector, analytic, subject.rounding[name], judge.rtol(name), confirm, rng)
        comparisons.append(judge.compare_one(name, *survey.result()))
        on_kinks |= confirm.on_kinks
    return judge.report(comparisons, DEFAULT_SCHEME, "directions", on_kinks, way=way)


@dataclass
class _Confirm:
    """Perturbs entries of one tensor individually and judges them like any others.

    has_worst: whether some wrong entry already has the most precise differences.
    on_kinks: masks of the entries on a kink, by tensor.
    """

    literal: LiteralDifferences
    judge: Judge
    name: str
    has_worst: bool = False
    on_kinks: Masks = field(default_factory=dict)

    def __call__(self, which: Array) -> Comparison:
        if self.literal.progress:
            self.literal.progress.doing(f"single entries of {self.name}")
        shape = self.judge.subject.analytic.values[self.name].shape
        unknown = Estimate(np.full(shape, np.nan), np.full(shape, np.inf))
        marked = np.zeros(shape, dtype=bool)
        marked.flat[which] = True
        first = {self.name: unknown.replaced(marked, self.literal.at(self.name, which, certify))}
        estimate = self.judge.settled(self.literal, first, {self.name: marked}, not self.has_worst)[self.name]
        found = self.judge.compare_one(self.name, estimate)
        self.has_worst |= bool(found.wrong.any())
        undecided = marked & (found.unresolved | found.doubtful)
        if not undecided.any():
            return found
        estimates, on_kinks = self.judge.by_convention(
            self.literal, {self.name: estimate}, {self.name: undecided}
        )
        for name, mask in on_kinks.items():
            self.on_kinks[name] = mask | self.on_kinks.get(name, False)
        return self.judge.compare_one(self.name, estimates[self.name])
