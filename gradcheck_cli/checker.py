"""The straight line from a spec to a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from time import perf_counter

import numpy as np

from gradcheck_cli.compare import (
    ERROR_BARS,
    ROUNDING_SAFETY,
    Comparison,
    Projected,
    by_convention,
    compare,
    default_rtol,
)
from gradcheck_cli.effort import Clock, plan
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.localise import Survey
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.estimate import Estimate, Progress, differentiate
from gradcheck_cli.numerical.kinks import alternatives
from gradcheck_cli.numerical.projections import Projector
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences, Reference, UnitDifferences
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.numerical.witness import Testimony, contradictions, hear
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.sources.foreign import ForeignObjective
from gradcheck_cli.spec import CheckSpec, Spec
from gradcheck_cli.subject import Subject, subject_of


@np.errstate(all="ignore")  # what is not finite is judged, or refused, not warned of
def check(spec: Spec, progress: Progress | None = None, clock: Clock = perf_counter) -> Report:
    """Compare the analytic gradients that `spec` names with finite differences, entry by entry.

    progress is told how many evaluations have just been made; clock decides, of code that is slow, for random
    directions instead of entries. Raises `InputError` where the spec does not
    fit its data or its code, and `UntrustedReferenceError` if unit and literal differences contradict each
    other.
    """
    subject = subject_of(spec)
    if subject.code is None:
        return _check_every_entry(subject, spec.check, progress)
    way = plan(subject.code, list(subject.analytic.values), spec.check, clock)
    with _evaluated_by(subject, subject.code, way.jobs) as (code, subject):
        if way.way == "literal":
            return _check_every_entry(subject, spec.check, progress)
        return replace(_check_along_directions(subject, code, spec.check, progress), way=way.told)


def _check_every_entry(subject: Subject, how: CheckSpec, progress: Progress | None) -> Report:
    reference, witness = _references(subject, how, progress)

    estimates = reference.estimate(list(subject.analytic.values))
    wrong = _marked(_compare(subject, estimates, how), "wrong")
    if wrong:  # only what does not agree yet is worth more steps
        estimates = reference.confirm(estimates, wrong)
    undecided = _marked(_compare(subject, estimates, how), "open", "doubtful", "worst_wrong")
    if undecided:  # and only what is not wrong by far, the whole ladder
        estimates = reference.refine(estimates, undecided)
    still_open = _marked(_compare(subject, estimates, how), "open")
    if still_open:  # and only what that leaves open, the widest arithmetic
        estimates = reference.sharpen(estimates, still_open)
    estimates, heard = _cross_examine(reference, witness, subject, estimates, how)
    undecided = _marked(_compare(subject, estimates, how), "unresolved", "wrong")
    estimates, judged = _judge_kinks(reference, subject, estimates, undecided, how)

    differences = "units" if isinstance(reference, UnitDifferences) else "literal"
    return _report(subject, how, _compare(subject, estimates, how), differences, judged, heard)


def _check_along_directions(
    subject: Subject, code: ForeignObjective, how: CheckSpec, progress: Progress | None
) -> Report:
    """Along random directions, and by entries where these disagree."""
    literal = LiteralDifferences(code, SCHEMES[how.scheme], how.step, progress)
    rng = np.random.default_rng(how.seed)
    comparisons: list[Comparison] = []
    judged: dict[str, Array] = {}
    for name, analytic in subject.analytic.values.items():
        confirm = _Confirm(literal, subject, name, how)
        survey = Survey(
            Projector(code, name, progress=progress),
            analytic,
            subject.rounding[name],
            _rtol(subject, name, how),
            confirm,
            rng,
        )
        comparisons.append(_compared(subject, name, *survey.result(), how=how))
        judged |= confirm.judged
    return _report(subject, how, comparisons, "directions", judged)


@dataclass
class _Confirm:
    """Moves entries of one tensor by themselves, and judges them as any other.

    judged: which of them were on a kink, as a mask, if any.
    """

    literal: LiteralDifferences
    subject: Subject
    name: str
    how: CheckSpec
    judged: dict[str, Array] = field(default_factory=dict)

    def __call__(self, which: Array) -> Comparison:
        shape = self.subject.analytic.values[self.name].shape
        unknown = Estimate(np.full(shape, np.nan), np.full(shape, np.inf))
        marked = np.zeros(shape, dtype=bool)
        marked.flat[which] = True
        estimate = unknown.replaced(marked, self.literal.at(self.name, which))
        found = _compared(self.subject, self.name, estimate, how=self.how)
        undecided = marked & (found.unresolved | found.wrong)
        if undecided.any():
            estimates, judged = _judge_kinks(
                self.literal, self.subject, {self.name: estimate}, {self.name: undecided}, self.how
            )
            self.judged = {n: mask | self.judged.get(n, False) for n, mask in judged.items()} or self.judged
            found = _compared(self.subject, self.name, estimates[self.name], how=self.how)
        return found


@contextmanager
def _evaluated_by(
    subject: Subject, code: ForeignObjective, jobs: int
) -> Iterator[tuple[ForeignObjective, Subject]]:
    """The code and its subject, evaluated in so many processes while the context lasts."""
    if jobs == 1 or subject.workers is None:
        yield code, subject
        return
    with subject.workers(jobs) as workers:
        shared = replace(code, evaluator=workers)
        yield shared, replace(subject, objective=shared, code=shared)


def _report(
    subject: Subject,
    how: CheckSpec,
    comparisons: list[Comparison],
    differences: str,
    judged: Mapping[str, Array],
    witness: Witness | None = None,
) -> Report:
    return Report(
        tuple(comparisons),
        network=subject.described,
        loss_name=subject.loss_name,
        loss=subject.loss,
        source=subject.analytic.origin,
        scheme=DEFAULT_SCHEME if differences == "directions" else how.scheme,
        differences=differences,
        rtol={c.name: c.rtol for c in comparisons},
        strict=how.strict,
        witness=witness,
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
    return [_compared(subject, name, estimates[name], how=how) for name in subject.analytic.values]


def _compared(
    subject: Subject, name: str, estimate: Estimate, projected: Projected | None = None, *, how: CheckSpec
) -> Comparison:
    return compare(
        name,
        subject.analytic.values[name],
        estimate,
        subject.rounding[name],
        _rtol(subject, name, how),
        float(np.finfo(subject.analytic.dtypes[name]).eps),
        subject.size,
        projected,
    )


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
    reference: Reference,
    subject: Subject,
    estimates: Estimates,
    undecided: Mapping[str, Array],
    how: CheckSpec,
) -> tuple[Estimates, dict[str, Array]]:
    """Give the entries on a kink the usual value nearest to their gradient; and which these are, as masks."""
    kinks = alternatives(reference, estimates, undecided)
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
