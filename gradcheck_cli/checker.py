"""The straight line from a spec to a report."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from gradcheck_cli.compare import (
    ERROR_BARS,
    ROUNDING_SAFETY,
    Comparison,
    by_convention,
    compare,
    default_rtol,
)
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.estimate import Progress, differentiate
from gradcheck_cli.numerical.kinks import alternatives
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.witness import Testimony, contradictions, hear
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.spec import CheckSpec, Spec
from gradcheck_cli.subject import Subject, subject_of


@np.errstate(all="ignore")  # what is not finite is judged, or refused, not warned of
def check(spec: Spec, progress: Progress | None = None) -> Report:
    """Compare the analytic gradients that `spec` names with finite differences, entry by entry.

    progress is told how many evaluations have just been made. Raises `InputError` where the spec does not
    fit its data or its code, and `UntrustedReferenceError` if unit and literal differences contradict each
    other.
    """
    subject = subject_of(spec)
    reference, witness = _references(subject, spec.check, progress)

    estimates = reference.estimate(list(subject.analytic.values))
    wrong = _marked(_compare(subject, estimates, spec.check), "wrong")
    if wrong:  # only what does not agree yet is worth more steps
        estimates = reference.confirm(estimates, wrong)
    undecided = _marked(_compare(subject, estimates, spec.check), "open", "doubtful", "worst_wrong")
    if undecided:  # and only what is not wrong by far, the whole ladder
        estimates = reference.refine(estimates, undecided)
    still_open = _marked(_compare(subject, estimates, spec.check), "open")
    if still_open:  # and only what that leaves open, the widest arithmetic
        estimates = reference.sharpen(estimates, still_open)
    estimates, heard = _cross_examine(reference, witness, subject, estimates, spec.check)
    estimates, judged = _judge_kinks(reference, subject, estimates, spec.check)
    comparisons = _compare(subject, estimates, spec.check)

    return Report(
        tuple(comparisons),
        network=subject.described,
        loss_name=subject.loss_name,
        loss=subject.loss,
        source=subject.analytic.origin,
        scheme=spec.check.scheme,
        differences="units" if isinstance(reference, UnitDifferences) else "literal",
        rtol={c.name: c.rtol for c in comparisons},
        strict=spec.check.strict,
        witness=heard,
        unexercised=subject.unexercised,
        unusual=subject.unusual,
        kinks=subject.kinks(judged) if judged else (),
    )


def _references(
    subject: Subject, how: CheckSpec, progress: Progress | None
) -> tuple[Reference, LiteralDifferences | None]:
    """The reference, and the witness it is held against: the literal way needs none."""
    scheme = SCHEMES[how.scheme]
    literal = LiteralDifferences(subject.objective, scheme, how.step, progress)
    if subject.units is None or how.differences == "literal":
        return literal, None
    return UnitDifferences(subject.units, scheme, how.step, progress), literal


def _compare(subject: Subject, estimates: Estimates, how: CheckSpec) -> list[Comparison]:
    return [
        compare(
            name,
            value,
            estimates[name],
            subject.rounding[name],
            _rtol(subject, name, how),
            float(np.finfo(subject.analytic.dtypes[name]).eps),
            subject.size,
        )
        for name, value in subject.analytic.values.items()
    ]


def _rtol(subject: Subject, name: str, how: CheckSpec) -> float:
    return how.rtol or default_rtol(subject.analytic.dtypes[name])


def _marked(comparisons: list[Comparison], *kinds: str) -> dict[str, Array]:
    """The entries of these kinds, as masks by tensor, of the tensors that have any."""
    masks = {c.name: reduce(np.logical_or, (getattr(c, kind) for kind in kinds)) for c in comparisons}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _cross_examine(
    reference: Reference,
    witness: LiteralDifferences | None,
    subject: Subject,
    estimates: Estimates,
    how: CheckSpec,
) -> tuple[Estimates, Witness | None]:
    """Hold the reference against its witness; where they differ, only after the closest look at both.

    The complex step, which subtracts nothing, is a second witness to the first.
    """
    if witness is None:
        return estimates, None
    allowed = {name: ROUNDING_SAFETY * bound for name, bound in subject.rounding.items()}
    testimony = hear(witness, estimates, allowed, how.seed)
    doubts = contradictions(testimony, estimates)
    if doubts:
        estimates = reference.refine(estimates, doubts)
        testimony = hear(witness, estimates, allowed, how.seed, differentiate)
        if contradictions(testimony, estimates):
            raise UntrustedReferenceError(_contradiction(testimony, estimates))
    complex_step = replace(witness, scheme=SCHEMES["complex"], step=None)
    entries = sum(len(t.which) for t in testimony)
    return estimates, Witness(
        entries,
        max(float(t.distance(estimates).max()) for t in testimony),
        max(float(t.apart_from(complex_step.plainly(t.name, t.which)).max()) for t in testimony),
    )


def _contradiction(testimony: list[Testimony], estimates: Estimates) -> str:
    worst = max(testimony, key=lambda t: float(t.distance(estimates).max()))
    i = int(worst.distance(estimates).argmax())
    units = estimates[worst.name]
    index = [int(k) for k in np.unravel_index(worst.which[i], units.value.shape)]
    return (
        f"two ways to difference {worst.name}{index} contradict each other: by units "
        f"{units.value.ravel()[worst.which[i]]:.9e} ± {units.error.ravel()[worst.which[i]]:.1e}, literally "
        f"{worst.literal.value[i]:.9e} ± {worst.literal.error[i]:.1e} (over {ERROR_BARS:g} error bars apart)"
    )


def _judge_kinks(
    reference: Reference, subject: Subject, estimates: Estimates, how: CheckSpec
) -> tuple[Estimates, dict[str, Array]]:
    """Give the entries on a kink the usual value nearest to their gradient; and which these are, as masks."""
    kinks = alternatives(
        reference, estimates, _marked(_compare(subject, estimates, how), "unresolved", "wrong")
    )
    chosen = {
        name: by_convention(
            subject.analytic.values[name].astype(np.float64),
            estimates[name],
            kinks[name],
            subject.rounding[name],
            _rtol(subject, name, how),
        )
        for name in kinks
    }
    return estimates | chosen, {name: of.at for name, of in kinks.items()}
