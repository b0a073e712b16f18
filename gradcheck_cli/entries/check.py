"""Check every entry of every tensor, either through the pre-activations or one entry at a time."""

from __future__ import annotations

from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.entries.look import Look, Masks, first_look, on_kinks, settled
from gradcheck_cli.entries.witness import cross_examined
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.reference import LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.report import Checked
from gradcheck_cli.spec.check import CheckSpec


def check_by_units(
    claim: Claim,
    units: UnitDifferences,
    literal: LiteralDifferences,
    how: CheckSpec,
    progress: Progress | None,
) -> Checked:
    """Check every entry by unit differences, and confirm a few of the results by literal differences."""
    look = settled(first_look(claim, units.estimate(claim.names)), units)
    look, witness = cross_examined(look, units, literal, how.seed)
    look, kinks = _closer(look, units, progress)
    return Checked(tuple(look.comparisons.values()), how.scheme, "units", kinks, witness)


def check_literally(
    claim: Claim, literal: LiteralDifferences, how: CheckSpec, progress: Progress | None
) -> Checked:
    """Check every entry by literal differences, one at a time. Such differences need no confirmation."""
    look = settled(first_look(claim, literal.estimate(claim.names)), literal)
    look, kinks = _closer(look, literal, progress)
    return Checked(tuple(look.comparisons.values()), how.scheme, "literal", kinks)


def _closer(look: Look, reference: Reference, progress: Progress | None) -> tuple[Look, Masks]:
    if progress:
        progress.doing("a closer look at undecided entries")
    return on_kinks(look, reference)
