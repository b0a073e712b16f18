"""Compare unit differences with their witnesses: literal differences and the complex step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.entries.look import Look, Masks, sharpened
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import ERROR_BARS, differentiate
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.witness import Testimony, contradictions, hear
from gradcheck_cli.report import Witness


def cross_examined(
    look: Look, units: UnitDifferences, witness: LiteralDifferences, seed: int
) -> tuple[Look, Witness]:
    """Compare the estimates with the witness. If they contradict each other, refine both and compare again.

    Raises an `UntrustedReferenceError` if the estimates and the witness still contradict each other.
    """
    look, testimony = examined(look, units, witness, seed)
    if contradictions(testimony, look.estimates):
        raise UntrustedReferenceError(_contradiction(testimony, look.estimates))
    return look, _said(testimony, look.estimates, witness)


def examined(
    look: Look, units: UnitDifferences, witness: LiteralDifferences, seed: int
) -> tuple[Look, list[Testimony]]:
    """Return the look and the testimony of the witness, both refined if they contradict each other."""
    allowed = {name: ROUNDING_SAFETY * bound for name, bound in look.claim.rounding.items()}
    testimony = hear(witness, look.estimates, allowed, seed)
    if doubts := contradictions(testimony, look.estimates):
        look = _refined(look, units, doubts)
        testimony = hear(witness, look.estimates, allowed, seed, differentiate)
        if more := contradictions(testimony, look.estimates):
            look = _refined(look, units, more)  # the witness's first steps were too long as well
    return look, testimony


def _refined(look: Look, units: UnitDifferences, doubts: Masks) -> Look:
    """Evaluate further steps for the entries in doubt, and return a `Look` at the new estimates.

    The new steps replace the estimates of their tensors, so entries are evaluated in wider arithmetic again.
    """
    return sharpened(look.after(units.refine(look.estimates, doubts)), units)


def _said(testimony: Sequence[Testimony], estimates: Estimates, witness: LiteralDifferences) -> Witness:
    """Return a summary of the distances between the witnesses and the estimates.

    The complex step, which subtracts nothing, is a second witness for the first entry of each tensor. It need
    not look for kinks, since the first witness has crossed none with longer steps.
    """
    scheme = replace(SCHEMES["complex"], ladder=(1.0,), to_the_sides=False)
    complex_step = replace(witness, scheme=scheme, step=None)
    firsts = [t.first for t in testimony]  # complex numbers are slow
    return Witness(
        sum(len(t.which) for t in testimony),
        max(float(t.distance(estimates).max()) for t in testimony),
        max(float(t.apart_from(complex_step.plainly(t.name, t.which)).max()) for t in firsts),
    )


def _contradiction(testimony: Sequence[Testimony], estimates: Estimates) -> str:
    worst = max(testimony, key=lambda t: float(t.distance(estimates).max()))
    i = int(worst.distance(estimates).argmax())
    units = estimates[worst.name]
    index = [int(k) for k in np.unravel_index(worst.which[i], units.value.shape)]
    return (
        f"two derivatives of {worst.name}{index} contradict each other: unit differences give "
        f"{units.value.ravel()[worst.which[i]]:.9e} ± {units.error.ravel()[worst.which[i]]:.1e}, "
        f"literal differences give {worst.literal.value[i]:.9e} ± {worst.literal.error[i]:.1e} "
        f"(over {ERROR_BARS:g} error bars apart)"
    )
