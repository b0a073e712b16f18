"""A subject for the gradients of a network.

The gradients are checked by finite differences of the network's loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.entries.check import check_by_units, check_literally
from gradcheck_cli.entries.claim import Claim, claim_of, largest_of
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.gradients.sources import read_gradients
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.network.sampled_rounding import observed_rounding
from gradcheck_cli.network.shifted import values_of
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.looks import Looks, taken
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.parallel.forked import shared_work
from gradcheck_cli.problem.memory import MIB
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.problem.unexercised import unexercised, unusual
from gradcheck_cli.report import Checked, Report
from gradcheck_cli.spec.arrays import ArrayFile
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.said import Said, describe, other_loss
from gradcheck_cli.subject.subject import report_of
from gradcheck_cli.types import Array, precision_of

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # only wrong gradients need its package

_BLOCKS = 8
"""The largest number of block-sized temporary arrays that exist at the same time."""

_NOTHING = 1e-18
"""An entry counts as empty if its terms are below this share of the largest entry in any tensor.

Only an empty entry is compared with other tensors. The size of its terms is its rounding bound divided by ε.
"""


@dataclass(frozen=True)
class NetworkSubject:
    """The gradients of a network that a spec describes.

    objective: the network's loss, as a function in which pre-activations can be perturbed.
    rounding: for each gradient, a bound on the rounding error of a correct gradient.
    observed: the largest rounding errors that were observed, for each gradient in which any were.
    in_out: whether the gradients come from a file that holds weights as [in, out].
    """

    analytic: Analytic
    objective: NetworkObjective
    rounding: Mapping[str, Array]
    observed: Mapping[str, Array]
    said: Said
    problem: Problem
    in_out: bool

    @np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
    def check(
        self, how: CheckSpec, progress: Progress | None = None, clock: Clock = now, looks: Looks = taken
    ) -> Report:
        """Check every entry, in as many processes as `how` asks for.

        looks: the function that evaluates the network for a `Look`, possibly with a cache.
        """
        with shared_work(self.objective, how.jobs, clock):
            return report_of(self, self._checked(how, progress, looks), how.strict)

    def _checked(self, how: CheckSpec, progress: Progress | None, looks: Looks) -> Checked:
        scheme, claim = SCHEMES[how.scheme], self._claim(how)
        literal = LiteralDifferences(self.objective, scheme, how.step, progress, looks)
        if how.differences == "literal":
            return check_literally(claim, literal, how, progress)
        units = UnitDifferences(self.objective, scheme, how.step, progress, looks)
        return check_by_units(claim, units, literal, how, progress)

    def _claim(self, how: CheckSpec) -> Claim:
        values, dtypes = self.analytic.values, self.analytic.dtypes
        largest = largest_of(values.values())
        elsewhere = {
            name: np.where(bound <= _NOTHING * precision_of(dtypes[name]).eps * largest, largest, 0.0)
            for name, bound in self.rounding.items()
        }
        telling = largest_of(value[np.abs(value) > self.rounding[name]] for name, value in values.items())
        at = self.analytic, self.rounding, how.rtol, elsewhere, how.atol, telling or np.inf
        return claim_of(*at, self.observed)

    def kinks(self, at: Mapping[str, Array]) -> tuple[str, ...]:
        """Return a short note on each kink of the network."""
        return tuple(self.objective.kinks.told(self.objective.network))

    def why(self, comparisons: Sequence[Comparison]) -> Diagnosis:
        """Return a diagnosis: the mistakes that reproduce the wrong gradients."""
        from gradcheck_cli.diagnose import diagnose  # load it only if needed

        return diagnose(
            comparisons,
            self.problem,
            samples=len(self.problem.x),
            in_out=self.in_out,
            loss=self.analytic.loss,
        )


def network_subject(spec: Spec, problem: Problem) -> NetworkSubject:
    """Return a subject for the gradients that the spec names, without running any of the user's code."""
    analytic = read_gradients(spec.gradients, problem)
    whole = problem.with_shifts(_checked_values(problem, analytic))
    objective = whole.objective_for(analytic.dtypes.values())
    objective.block = min(objective.block, spec.check.memory * MIB // _BLOCKS)
    bounds, observed = _bounds(whole, analytic, objective)
    return NetworkSubject(
        analytic=analytic,
        objective=objective,
        rounding=bounds,
        observed=observed,
        said=Said(
            described=describe(problem),
            loss_name=_loss_name(spec),
            loss=float(objective.total),
            unexercised=unexercised(problem),
            unusual=(*unusual(problem), *other_loss(problem, analytic)),
        ),
        problem=problem,
        in_out=isinstance(spec.gradients, ArrayFile) and spec.gradients.layout == "in_out",
    )


def _checked_values(problem: Problem, analytic: Analytic) -> Mapping[str, int]:
    """Return the index of each value of the network whose gradient is checked, by the gradient's name."""
    known = values_of(problem.network)
    return {name: known[name] for name in analytic.values if name in known}


def _bounds(
    problem: Problem, analytic: Analytic, objective: NetworkObjective
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """Return bounds on the rounding error of each correct gradient, in the arithmetic it was computed in.

    The second result holds the largest rounding errors that were observed, for each gradient in which any
    were.

    If any value of the objective is on a kink where the slope changes, rounding decides the side of the kink.
    A few random samples of rounding errors may show only one side, so the bounds do not rely on such samples.
    On a kink of a penalty, an entry is exactly 0, and rounding decides nothing. Samples also tell too little
    about some losses.
    """
    bounds, observed = {}, dict[Any, Arrays]()
    for dtype in set(analytic.dtypes.values()):
        at = (problem.network, problem.parameters, problem.x, problem.target)
        arithmetic = Arithmetic.of(dtype, held=problem.dtype)
        bounds[dtype] = gradient_rounding(*at, arithmetic, objective.values)
        steady = problem.network.loss.rounding.steady(objective.output, arithmetic.eps)
        tells = steady and not objective.kinks.turn
        wider = _wider(dtype, bounds[dtype], analytic, objective) if tells else None
        if wider is not None:
            seen = observed_rounding(*at, dtype, wider)
            observed[dtype] = seen.largest
            bounds[dtype] = seen.limited(bounds[dtype])
    dtypes = analytic.dtypes.items()
    both = {name: observed[dtype][name] for name, dtype in dtypes if dtype in observed}
    return {name: bounds[dtype][name] for name, dtype in dtypes}, both


_MAY_HIDE = 1e-6
"""A bound above this share of the largest entry may hide a mistake. In float64, most are far smaller."""


def _wider(
    dtype: np.dtype[Any], bounds: Arrays, analytic: Analytic, objective: NetworkObjective
) -> np.dtype[Any] | None:
    """Return a type in which to observe the rounding errors of gradients, or None if it is not worth it."""
    if dtype == np.float32:
        return np.dtype(np.float64)
    largest = {name: largest_of([value]) for name, value in analytic.values.items()}
    hides = any(bounds[name].max(initial=0.0) > _MAY_HIDE * size > 0 for name, size in largest.items())
    if dtype != np.float64 or not hides or objective.widest is None:
        return None
    return objective.widest.x.dtype


def _loss_name(spec: Spec) -> str:
    """Return a description of the loss, such as ``mse (batchmean)``."""
    return f"{spec.network.loss.name} ({spec.network.loss.reduction})" if spec.network else "its own loss"
