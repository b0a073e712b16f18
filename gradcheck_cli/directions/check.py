"""Check code along random directions if checking every entry would be too slow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.directions.projections import Projector
from gradcheck_cli.directions.search import Survey
from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.entries.look import Masks, first_look, on_kinks, settled, union
from gradcheck_cli.numerical.estimate import Estimate, Progress, certify
from gradcheck_cli.numerical.objective import DirectedObjective
from gradcheck_cli.numerical.reference import LiteralDifferences
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.report import Checked
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.types import Array


def check_along_directions(
    claim: Claim, code: DirectedObjective, how: CheckSpec, progress: Progress | None, way: str
) -> Checked:
    """Check every tensor along a few directions, and single entries if the directions disagree.

    way: the sentence in the report that explains why directions are used.
    """
    literal = LiteralDifferences(code, SCHEMES[how.scheme], how.step, progress)
    rng = np.random.default_rng(how.seed)
    comparisons: list[Comparison] = []
    kinks: Masks = {}
    for name, analytic in claim.analytic.values.items():
        if progress:
            progress.doing(f"{name} along random directions")
        confirm = _Confirm(claim, literal, name)
        projector = Projector(code, name, progress=progress)
        tolerances = (claim.rtol[name], claim.atol)
        survey = Survey(projector, analytic, claim.rounding[name], tolerances, confirm, rng)
        comparisons.append(claim.compare(name, *survey.result()))
        kinks |= confirm.on_kinks
    return Checked(tuple(comparisons), DEFAULT_SCHEME, "directions", kinks, way=way)


@dataclass
class _Confirm:
    """Perturbs some entries of one tensor, each on its own, and judges them as in an entry-by-entry check.

    has_worst: whether a wrong entry has already been estimated with the whole ladder of steps.
    on_kinks: for each tensor, a mask of the entries that were found to be on a kink.
    """

    claim: Claim
    literal: LiteralDifferences
    name: str
    has_worst: bool = False
    on_kinks: Masks = field(default_factory=dict)

    def __call__(self, which: Array) -> Comparison:
        if self.literal.progress:
            self.literal.progress.doing(f"single entries of {self.name}")
        marked = np.zeros(self.claim.analytic.values[self.name].shape, dtype=bool)
        marked.flat[which] = True
        look = first_look(self.claim, {self.name: self._first(marked, which)}, {self.name: marked})
        look = settled(look, self.literal, worst=not self.has_worst)
        self.has_worst |= bool(look.comparisons[self.name].wrong.any())
        look, kinks = on_kinks(look, self.literal)
        self.on_kinks = union(self.on_kinks, kinks)
        return look.comparisons[self.name]

    def _first(self, marked: Array, which: Array) -> Estimate:
        """Return an estimate of a tensor that gives only the marked entries. All other entries are unknown.

        which: the flat indices of the marked entries.
        """
        unknown = Estimate(np.full(marked.shape, np.nan), np.full(marked.shape, np.inf))
        return unknown.replaced(marked, self.literal.at(self.name, which, certify))
