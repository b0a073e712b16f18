"""The kinds of mistake: a wrong step of backprop, a wrong penalty, a finished gradient spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gradcheck_cli.diagnose.site import Part, Site, fitting
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Wrong:
    """The words for a mistake.

    kind, family: see `Cause`.
    sentence: what happened. {where} is the layers, {tensor} the tensors, {it} the gradient that is wrong,
    {activation} and {loss} their names, {value} the unknown, {place} the entries.
    wrong, right: the formulas. {phi} is the derivative of the layer's activation, {dloss} the loss's.
    factor: the wrong factor of the chain rule.
    unknown: the name of the number to solve for; empty for none.
    code: the wrong statements in numpy; their names are those of docs/_generate/mistake_pages/programs.py.
    """

    kind: str
    family: str
    sentence: str
    wrong: str
    right: str
    factor: str = ""
    unknown: str = ""
    code: str = ""


Step = Callable[[Site, float], Array | None]
"""Return the result of a wrong step at a site, in the right one's shape, given the unknown.

None where the step does not apply.
"""

Solver = Callable[[Site, Array], Iterable[float]]
"""Return the values that the unknown may have, given the bias's gradient (out,) without penalties."""


@dataclass(frozen=True, kw_only=True)
class Mistake(Wrong):
    """One wrong step of a layer's backprop that replaces the right one.

    The step is affine in the unknown, unless a solver proposes values.  planted: the value to plant it with.
    alike: whether it differs from a plantable one only in a number, such as how many layers away.
    """

    part: Part
    step: Step
    solver: Solver | None = None
    planted: float = 0.0
    alike: bool = False

    def made(self, site: Site, unknown: float) -> Array | None:
        """Return what the step makes of a site, in the right one's shape, or None where it does not apply."""
        try:
            result = self.step(site, unknown)
        except ValueError:  # what fits dense layers may not fit the rows of a convolution
            if not site.activity.has_images:
                raise
            return None
        return fitting(self.part, site, result)


Steps = dict[Part, Mistake]
"""The wrong steps between ∂L/∂a and δ of a layer; parts that are absent are right."""

Term = Callable[[Problem, str, float], Array | None]
"""Return the wrong penalty term of a parameter's gradient; None where it does not apply."""


@dataclass(frozen=True, kw_only=True)
class WrongPenalty(Wrong):
    """A wrong penalty; its term is affine in the unknown."""

    term: Term
    planted: float = 0.0


class Spoilt(NamedTuple):
    """A spoilt gradient: the result, the value of the unknown, and the entries in words."""

    gradient: Array
    value: float | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WrongTensor(Wrong):
    """A mistake that spoils one tensor's finished gradient.

    fits: spoils a right gradient, with the unknowns read off the gradient found; None if it cannot fit.
    plant: spoils a right gradient with unknowns of its own choice; None where it does not apply.
    of_units: whether the bias is spoilt where the weight's rows are.
    """

    fits: Callable[[Target, Array], Spoilt | None]
    plant: Callable[[Array], Array | None]
    of_units: bool = False
