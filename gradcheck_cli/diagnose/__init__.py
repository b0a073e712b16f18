"""Why a gradient is wrong: the mistake that leads to it, by name.

Of a network that we know, every wrong formula in the tables (`table.py`) is computed on this very network
and data, and the one that reproduces the gradient to rounding is the answer (`search.py`). Of anything else
the arrays are looked at (`arrays.py`). Nothing is guessed: where nothing fits, what is known is said
(`observe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gradcheck_cli.compare import ERROR_BARS, Comparison
from gradcheck_cli.diagnose.arrays import diagnose_arrays
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.network import diagnose_network
from gradcheck_cli.diagnose.turned import turned
from gradcheck_cli.model.network import gradients
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.model.special import Array


def diagnose(
    comparisons: Sequence[Comparison],
    problem: Problem | None,
    is_its_loss: bool = True,
    samples: int | None = None,
    without: frozenset[str] = frozenset(),
    in_out: bool = False,
) -> Diagnosis:
    """Why the gradients compared are wrong.

    problem: the network, where the spec describes one.
    is_its_loss: whether what was differenced is the network's loss, and not code that may compute another.
    samples: how many there are, if that is known.  without: kinds of mistakes to leave out.
    in_out: whether the author's file holds weights as [in, out], so that its rows are our columns.
    """
    found = _diagnosed(comparisons, problem, is_its_loss, samples, without)
    return turned(found) if in_out else found


def _diagnosed(
    comparisons: Sequence[Comparison],
    problem: Problem | None,
    is_its_loss: bool,
    samples: int | None,
    without: frozenset[str],
) -> Diagnosis:
    if problem is not None:
        with np.errstate(all="ignore"):
            right = gradients(problem.network, problem.parameters, problem.x, problem.target)
        if is_its_loss or _agrees(right, comparisons):
            return diagnose_network(problem, right, comparisons, without)
    return diagnose_arrays(comparisons, samples, without)


def diagnosis_of_trials(shown: Sequence[str]) -> Diagnosis:
    """That which running the code in other ways has shown: what else is off may follow from it."""
    return Diagnosis((), 0, (), (), "arrays", tuple(shown))


def _agrees(right: Mapping[str, Array], comparisons: Sequence[Comparison]) -> bool:
    """Whether differences of the code's loss confirm the network's gradients."""
    with np.errstate(invalid="ignore"):
        return not any(
            (np.abs(right[c.name] - c.numerical) > c.tolerance + ERROR_BARS * c.error).any()
            for c in comparisons
        )
