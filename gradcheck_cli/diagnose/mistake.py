"""What a mistake is: a wrong step of backprop, a wrong penalty, or a finished gradient spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Wrong:
    """How to speak of a mistake.

    kind, family: see `Cause`.
    sentence: what happened; {where} is the layers or tensors, {activation}, {loss} their names, {value} the
    unknown, and {place} the entries.
    wrong, right: the formulas, {phi} being the derivative of the layer's activation, {dloss} the loss's.
    factor: which factor of the chain rule is off.
    unknown: what has to be solved for, if anything has.
    """

    kind: str
    family: str
    sentence: str
    wrong: str
    right: str
    factor: str = ""
    unknown: str = ""


Step = Callable[[Site, float], Array | None]
"""What a wrong step makes of a site, in the right one's shape, given the unknown; or None."""

Solver = Callable[[Site, Array], Iterable[float]]
"""What the unknown may be, given the bias's gradient (out,) without penalties."""


@dataclass(frozen=True, kw_only=True)
class Mistake(Wrong):
    """One wrong step of a layer's backprop in place of the right one.

    The step is affine in the unknown, unless a solver proposes values.  planted: the value to plant it with.
    alike: one of many that differ by a number, of which one is enough to plant.
    """

    part: Part
    step: Step
    solver: Solver | None = None
    planted: float = 0.0
    alike: bool = False


Steps = dict[Part, Mistake]
"""The wrong steps on the way from what a layer is handed to its δ; those not named are right."""

Term = Callable[[Problem, str, float], Array | None]
"""The wrong penalty term of a parameter's gradient; None where it is no other than the right one."""


@dataclass(frozen=True, kw_only=True)
class WrongPenalty(Wrong):
    """A wrong penalty; its term is affine in the unknown."""

    term: Term
    planted: float = 0.0


class Spoilt(NamedTuple):
    """A finished gradient with something done to it: the result, the value, and which entries, in words."""

    gradient: Array
    value: float | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WrongTensor(Wrong):
    """Something done to one tensor's finished gradient.

    fits: the same done to the given gradient, with unknowns read off what was found; or None.
    plant: the same done with unknowns of one's own choice; None where it does not apply.
    of_units: what is done to a weight's rows is done to the bias, too.
    """

    fits: Callable[[Target, Array], Spoilt | None]
    plant: Callable[[Array], Array | None]
    of_units: bool = False
