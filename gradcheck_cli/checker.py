"""Check a spec from start to finish and return a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.comparison import ERROR_BARS, ROUNDING_SAFETY, Verdict
from gradcheck_cli.directions.plan import plan
from gradcheck_cli.entries.judge import Judge
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.numerical.estimate import Progress, differentiate
from gradcheck_cli.numerical.looks import Looks, taken
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.numerical.witness import Testimony, contradictions, hear
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.parallel.forked import shared_work
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.subject import Subject, subject_of

if TYPE_CHECKING:
    from gradcheck_cli.code.objective import ForeignObjective


@np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
def check(spec: Spec, progress: Progress | None = None, clock: Clock = now) -> Report:
    """Compare the analytic gradients that `spec` names with finite differences, entry by entry.

    progress: receives the number of evaluations as they finish.
    clock: measures the speed of the user's code; slow code is checked along random directions.

    Raises `InputError` if the spec does not fit its data or its code, and `UntrustedReferenceError` if unit
    and literal differences contradict each other.
    """
    return check_subject(subject_of(spec), spec.check, progress, clock)


@np.errstate(all="ignore")
def check_subject(
    subject: Subject,
    how: CheckSpec,
    progress: Progress | None = None,
    clock: Clock = now,
    looks: Looks = taken,
) -> Report:
    """Check a subject that is already loaded.

    If nothing is wrong with the user's code, its other upstream gradients are checked, too.
    looks: takes the looks at a network, possibly from a cache.
    """
    report = _check_once(subject, how, progress, clock, looks)
    for other in subject.others:
        if report.verdict is Verdict.WRONG:
            break
        found = _check_once(other(), how, progress, clock, looks)
        report = found if found.verdict is Verdict.WRONG else report
    return report


def _check_once(
    subject: Subject, how: CheckSpec, progress: Progress | None, clock: Clock, looks: Looks
) -> Report:
    if subject.units is not None:
        with shared_work(subject.units, how.jobs, clock):
            return _check_every_entry(Judge(subject, how), progress, looks)
    assert subject.code is not None
    way = plan(subject.code, list(subject.analytic.values), how, clock)
    with _evaluated_by(subject, subject.code, way.jobs) as (code, subject):
        judge = Judge(subject, how)
        if way.way == "literal":
            if progress:
                progress.doing("checking every entry")
            return _check_every_entry(judge, progress)
        from gradcheck_cli.directions.check import check_along_directions  # only slow code needs it

        return check_along_directions(judge, code, progress, way.told)


def _check_every_entry(judge: Judge, progress: Progress | None, looks: Looks = taken) -> Report:
    reference, witness = _references(judge.subject, judge.how, progress, looks)

    estimates = judge.settled(reference, reference.estimate(list(judge.subject.analytic.values)))
    estimates, heard = _cross_examine(reference, witness, judge, estimates)
    if progress:
        progress.doing("a closer look at undecided entries")
    # Known kinks make their sides cheap; otherwise only entries that may sit on one are worth a search.
    open_kinds = ("unresolved", "wrong" if judge.subject.objective.tells_kinks else "doubtful")
    undecided = judge.marked(estimates, *open_kinds)
    estimates, on_kinks = judge.by_convention(reference, estimates, undecided)

    differences = "units" if isinstance(reference, UnitDifferences) else "literal"
    return judge.report(judge.compare(estimates), judge.how.scheme, differences, on_kinks, heard)


def _references(
    subject: Subject, how: CheckSpec, progress: Progress | None, looks: Looks
) -> tuple[Reference, LiteralDifferences | None]:
    """Return the reference and its witness; literal differences need no witness."""
    scheme = SCHEMES[how.scheme]
    literal = LiteralDifferences(subject.objective, scheme, how.step, progress, looks)
    if subject.units is None or how.differences == "literal":
        return literal, None
    return UnitDifferences(subject.units, scheme, how.step, progress, looks), literal


@contextmanager
def _evaluated_by(
    subject: Subject, code: ForeignObjective, jobs: int
) -> Iterator[tuple[ForeignObjective, Subject]]:
    """Yield the code and its subject, evaluated in this many processes while the context lasts."""
    if jobs == 1 or subject.workers is None:
        yield code, subject
        return
    with subject.workers(jobs) as workers:
        shared = replace(code, evaluator=workers)
        yield shared, replace(subject, objective=shared, code=shared)


def _cross_examine(
    reference: Reference,
    witness: LiteralDifferences | None,
    judge: Judge,
    estimates: Estimates,
) -> tuple[Estimates, Witness | None]:
    """Compare the reference with its witness, and refine both before reporting a contradiction.

    The complex step, which subtracts nothing, is a second witness for the first entry of each tensor.
    """
    if witness is None:
        return estimates, None
    allowed = {name: ROUNDING_SAFETY * bound for name, bound in judge.subject.rounding.items()}
    testimony = hear(witness, estimates, allowed, judge.how.seed)
    doubts = contradictions(testimony, estimates)
    if doubts:
        estimates = reference.refine(estimates, doubts)
        testimony = hear(witness, estimates, allowed, judge.how.seed, differentiate)
        if contradictions(testimony, estimates):
            raise UntrustedReferenceError(_contradiction(testimony, estimates))
    complex_step = replace(witness, scheme=replace(SCHEMES["complex"], ladder=(1.0,)), step=None)
    firsts = [t.first for t in testimony]  # complex numbers are slow
    entries = sum(len(t.which) for t in testimony)
    return estimates, Witness(
        entries,
        max(float(t.distance(estimates).max()) for t in testimony),
        max(float(t.apart_from(complex_step.plainly(t.name, t.which)).max()) for t in firsts),
    )


def _contradiction(testimony: list[Testimony], estimates: Estimates) -> str:
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
