"""The types of mistakes: a wrong step of backprop, a wrong penalty, or a spoilt gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gradcheck_cli.diagnose.families import Family
from gradcheck_cli.diagnose.site import Part, Site, fitting
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Wrong:
    """A mistake in words and formulas.

    kind: a name that scripts can rely on.
    family: the group that this kind belongs to.
    sentence: a description of what happened. {where} stands for the layers, {tensor} for the tensors, {it}
        for the wrong gradient, {activation} for the activation's name, {loss} for the loss's name, {value}
        for the unknown, and {place} for the entries.
    wrong, right: the wrong formula and the correct one. {phi} stands for the derivative of the layer's
        activation, {dloss} for the derivative of the loss. In a formula that spells out this derivative, {w}
        stands for the weights of the samples and classes, and {w_n} for those of the samples alone.
    factor: the wrong factor of the chain rule.
    unknown: the name of the number to solve for; empty if no number is unknown.
    code: the wrong statements in numpy, with the variables of docs/_generate/mistake_pages/programs.py.
    shown_by: the data or parameters that would reveal the mistake if it has no effect on the current
        gradients. By default, the family's text is used.
    refined_by: the kinds of mistakes that say the same more precisely.
    freedom: a rank of how freely the unknown can be fitted. The more freely it can be fitted, the less a fit
        explains. A factor of any value explains least.
    describes: whether the mistake only says where the gradient is wrong. A mistake that says why is
        preferred.
    """

    kind: str
    family: Family
    sentence: str
    wrong: str
    right: str
    factor: str = ""
    unknown: str = ""
    code: str = ""
    shown_by: str = field(default="", kw_only=True)
    refined_by: frozenset[str] = field(default=frozenset(), kw_only=True)
    freedom: int = field(default=0, kw_only=True)
    describes: bool = field(default=False, kw_only=True)

    @property
    def what_shows_it(self) -> str:
        """The data or parameters that would reveal a mistake whose gradients happen to be right."""
        return self.shown_by or self.family.shown_by

    def is_said_by(self, kinds: Collection[str]) -> bool:
        """Return whether `kinds` contains this mistake's kind or a kind that says the same more precisely."""
        return self.kind in kinds or not self.refined_by.isdisjoint(kinds)


Step = Callable[[Site, float], Array | None]
"""A function that takes a `Site` and an unknown's value, and returns the result of a wrong step.

The result has the shape of the correct one. If the step does not apply to the site, the result is None.
"""

Solver = Callable[[Site, Array], Iterable[float]]
"""A function that takes a `Site` and the bias's gradient, and returns values to try for the unknown.

The gradient, (out,), has no penalty terms. With batch normalisation, it is the gradient of β instead.
"""


@dataclass(frozen=True, kw_only=True)
class Mistake(Wrong):
    """A wrong step that replaces the correct step in a layer's backprop.

    part: the part of backprop that the step replaces.
    step: the wrong step. Its result is affine in the unknown unless there is a solver.
    solver: a function that proposes values of the unknown.
    planted: the value of the unknown when the mistake is planted.
    alike: whether another mistake differs from this one only in a number, such as a distance in layers. Only
        that other mistake is planted.
    """

    part: Part
    step: Step
    solver: Solver | None = None
    planted: float = 0.0
    alike: bool = False

    def made(self, site: Site, unknown: float) -> Array | None:
        """Return the result of the wrong step at a site, in the correct shape.

        Returns None if the step does not apply to the site.
        """
        try:
            result = self.step(site, unknown)
        except ValueError:  # a step for dense layers may not fit the rows of a convolution
            if not site.activity.has_images:
                raise
            return None
        return fitting(self.part, site, result)


Steps = dict[Part, Mistake]
"""The wrong steps that lead to a layer's ∂L/∂a and δ, by part of backprop. All other parts are correct."""

Term = Callable[[Problem, str, float], Array | None]
"""A function that takes the problem, a parameter's name and the unknown, and returns a wrong penalty term.

The result is None if the mistake does not apply to the parameter.
"""


@dataclass(frozen=True, kw_only=True)
class WrongPenalty(Wrong):
    """A wrong penalty, whose term in the gradient is affine in the unknown."""

    term: Term
    planted: float = 0.0


class Spoilt(NamedTuple):
    """A spoilt gradient, with the value of the unknown and a description of the entries affected."""

    gradient: Array
    value: float | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WrongTensor(Wrong):
    """A mistake that spoils one tensor's finished gradient.

    fits: a function that takes the gradient to explain and the correct gradient, and spoils the correct one.
        It determines unknowns from the author's gradient, and returns None if the mistake cannot fit.
    plant: a function that spoils a correct gradient with preset unknowns. It returns None if the mistake does
        not apply.
    of_units: whether the mistake spoils whole units: their rows of the weight's gradient and their entries of
        the bias's gradient.
    """

    fits: Callable[[Target, Array], Spoilt | None]
    plant: Callable[[Array], Array | None]
    of_units: bool = False
