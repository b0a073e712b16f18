"""Reject explanations that blame correct code, for example by two mistakes that cancel each other out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.problem.problem import Problem


def is_fair(made: Sequence[Made], problem: Problem, targets: Mapping[str, Target]) -> bool:
    """Return whether each of these mistakes affects a gradient that is really wrong."""
    return all(_shows(each, problem, targets) for each in made)


def _shows(made: Made, problem: Problem, targets: Mapping[str, Target]) -> bool:
    if made.tensor:
        return not targets[made.tensor].is_right
    layer = problem.network.layers[_seen_in(made, problem)]
    checked = [target for name, target in targets.items() if name in layer.shapes]
    return not checked or any(not target.is_right for target in checked)


def _seen_in(made: Made, problem: Problem) -> int:
    """Return the index of the topmost layer whose gradients the mistake affects.

    That is the layer in which the mistake was made. If the mistake is in the gradient that this layer passes
    down, the result is the layer below.
    """
    layers = [layer.name for layer in problem.network.layers]
    is_below = isinstance(made.wrong, Mistake) and made.wrong.part is Part.BELOW
    return layers.index(made.layer) - is_below
