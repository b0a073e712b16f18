"""Check every entry through the sites that were found inside the user's code.

A site is a value that is perturbed instead of a parameter, such as a pre-activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.entries.look import Look, Masks, first_look, on_kinks, settled, union
from gradcheck_cli.entries.witness import examined
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.witness import Testimony, contradictions
from gradcheck_cli.report import Checked
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.types import Array

_MOST_OPEN = 64
"""The largest number of undecided entries of a tensor that are perturbed literally.

Unit differences leave these entries undecided. The kinks of the user's code are unknown, so only literal
differences can tell whether an entry is on a kink.
"""


def check_by_sites(
    claim: Claim,
    units: UnitDifferences,
    literal: LiteralDifferences,
    how: CheckSpec,
    progress: Progress | None,
) -> tuple[Checked, tuple[str, ...]]:
    """Check every entry by unit differences, and confirm a few entries by literal differences.

    Returns the findings, and the names of the tensors that must be checked in another way. In such a tensor,
    unit and literal differences contradict each other or leave many entries open.
    """
    if progress:
        progress.doing("checking every entry through the outputs of modules")
    look = settled(first_look(claim, units.estimate(claim.names)), units)
    look, testimony = examined(look, units, literal, how.seed)
    doubted = {*contradictions(testimony, look.estimates), *_unconfirmed(look, literal)}
    left = {name: mask for name, mask in _open(look).items() if name not in doubted}
    doubted |= {name for name, mask in left.items() if np.count_nonzero(mask) > _MOST_OPEN}
    look, kinks = _closer(look, literal, {name: mask for name, mask in left.items() if name not in doubted})
    trusted = tuple(c for name, c in look.comparisons.items() if name not in doubted)
    return Checked(trusted, how.scheme, "units", kinks), tuple(n for n in claim.names if n in doubted)


def _unconfirmed(look: Look, literal: LiteralDifferences) -> Iterable[str]:
    """Yield the name of each tensor whose worst wrong entry is not wrong by literal differences."""
    for name, mask in look.wrong.items():
        which = np.flatnonzero(mask)
        worst = which[[int(np.nan_to_num(look.comparisons[name].difference[mask], nan=-1.0).argmax())]]
        rounding = ROUNDING_SAFETY * look.claim.rounding[name].ravel()[worst]
        if contradictions([Testimony(name, worst, literal.at(name, worst), rounding)], look.estimates):
            yield name


def _open(look: Look) -> Masks:
    """Return masks of the undecided entries whose error bar is not negligible.

    An error bar is negligible if it does not exceed the rounding error of the analytic gradient.
    """
    undecided = union(look.unresolved, look.doubtful)
    masks = {name: mask & _is_vague(look.comparisons[name]) for name, mask in undecided.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _is_vague(comparison: Comparison) -> Array:
    return ~(comparison.bar <= comparison.rounding)


def _closer(look: Look, literal: LiteralDifferences, undecided: Masks) -> tuple[Look, Masks]:
    """Decide the undecided entries by literal differences. Return a `Look`, and masks of entries on kinks."""
    among = {name: undecided.get(name, np.array(False)) for name in look.estimates}
    return on_kinks(replace(look.after(literal.refine(look.estimates, undecided)), among=among), literal)
