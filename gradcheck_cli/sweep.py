"""The relative error of a gradient against the step of each difference scheme.

It is ‖a − n(h)‖ / max(‖a‖, ‖n‖) over the entries that are swept, with a the analytic gradient, n(h) the
plain scheme at the one step h, and n what the check's own scheme extrapolates from all its steps. The scale
is the same for every h: the error of a small gradient may be larger than 1, and falls with h all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.checker import check_subject
from gradcheck_cli.compare import Verdict
from gradcheck_cli.convergence import Curve, Measured, curve_of
from gradcheck_cli.errors import ExitCode, bad_input
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.numerical.stepping import Drawing, Entries, evaluations
from gradcheck_cli.report import EXIT_CODES, Report
from gradcheck_cli.spec import Spec
from gradcheck_cli.subject import Subject, subject_of
from gradcheck_cli.types import Array

STEPS = tuple(2.0**-k for k in range(51))
"""From 1 down to 2⁻⁵⁰, which is nearly ε, in units of the distance that a pre-activation moves."""

PLAIN = tuple(name for name, scheme in SCHEMES.items() if not scheme.extrapolate)
"""The schemes that have a value at one step."""


@dataclass(frozen=True)
class Extrapolated:
    """Where the check's own scheme lands, with all its steps: its relative error and the bar it has for it.

    scale: max(‖a‖, ‖n‖), what every error is relative to.
    unknown: of how many entries, being on kinks, it says nothing; the others alone count.
    """

    steps: tuple[float, ...]
    error: float
    bar: float
    scale: float
    unknown: int


@dataclass(frozen=True)
class Sweep:
    """The curves of one spec's gradients, over `swept` entries, and what the check says of all of them."""

    curves: tuple[Curve, ...]
    adaptive: Extrapolated
    swept: int
    report: Report

    @property
    def verdict(self) -> Verdict:
        """That of the check, unless the curves do not bear it out.

        They look at entries together, the check at each. So what it calls wrong is wrong, though it be too
        little to show; and what it does not is never called wrong here, as where a kink leaves a choice.
        """
        of_curves = [curve.verdict for curve in self.curves]
        if self.report.verdict is not Verdict.AGREES:
            return self.report.verdict
        borne_out = Verdict.AGREES in of_curves and Verdict.WRONG not in of_curves
        return Verdict.AGREES if borne_out else Verdict.UNRESOLVED

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.verdict]


@np.errstate(all="ignore")  # what is not finite is no point of a curve
def sweep(spec: Spec, schemes: Sequence[str] = (), progress: Progress | None = None) -> Sweep:
    """Difference the checked gradients of `spec` by plain schemes at steps from 1 down to 2⁻⁵⁰.

    schemes: names of `PLAIN`, by default all that apply.  Raises as `check` does.
    """
    subject = subject_of(spec)
    named = _applicable(schemes, subject)
    report = check_subject(subject, spec.check, progress)
    drawn = _drawn(subject, report, spec, progress)
    entries = list(drawn.values())
    if progress:
        progress.expect(_evaluations(entries, named))
    analytic = _joined([subject.analytic.values[name].ravel()[of.which] for name, of in drawn.items()])
    adaptive = _extrapolated(entries, analytic)
    measured: dict[str, list[Measured]] = {name: [] for name in named}
    for step in STEPS:  # all schemes at one step before the next: they share points
        for name in named:
            measured[name].append(_measured(entries, name, step, analytic, adaptive.scale))
    allowed = _over(_norm(_tolerance(report, drawn)), adaptive.scale)
    curves = (curve_of(name, SCHEMES[name].order, measured[name], allowed) for name in named)
    return Sweep(tuple(curves), adaptive, len(analytic), report)


def _applicable(schemes: Sequence[str], subject: Subject) -> tuple[str, ...]:
    """In the order of the table, each once."""
    if subject.units is None and any(not SCHEMES[name].cancels for name in schemes):
        help = "the code computes with real numbers, as far as is known"
        raise bad_input("--scheme: 'complex' steps are not for code", help=help)
    wanted = schemes or [name for name in PLAIN if subject.units is not None or SCHEMES[name].cancels]
    return tuple(name for name in PLAIN if name in wanted)


def _drawn(subject: Subject, report: Report, spec: Spec, progress: Progress | None) -> Mapping[str, Entries]:
    """Every entry; of what is too large for that some, drawn at random, and each tensor's worst."""
    names = [name for name, value in subject.analytic.values.items() if value.size]
    worst = {c.name: c.worst(1) for c in report.comparisons}
    included = {
        c.name: int(np.ravel_multi_index(worst[c.name][0].index, c.shape))
        for c in report.comparisons
        if worst[c.name]
    }
    drawing = Drawing(included, spec.check.seed, progress)
    if subject.units is None or spec.check.differences == "literal":
        return drawing.literally(subject.objective, names)
    return drawing.by_units(subject.units, names)


def _evaluations(entries: Sequence[Entries], named: Sequence[str]) -> int:
    """Of single moves; a layer's weight and bias share theirs."""
    moved = {id(numbers): len(numbers.which) for of in entries for numbers in of.losses.moved}
    return sum(moved.values()) * evaluations([SCHEMES[name] for name in named], STEPS)


def _measured(entries: Sequence[Entries], name: str, step: float, analytic: Array, scale: float) -> Measured:
    stepped = [of.at(SCHEMES[name], step) for of in entries]
    apart = _norm(analytic - _joined([each.value for each in stepped]))
    noise = _norm(_joined([each.noise for each in stepped]))
    crossed = sum(int(np.count_nonzero(each.crossed)) for each in stepped)
    return Measured(step, _over(apart, scale), _over(noise, scale), crossed)


def _extrapolated(entries: Sequence[Entries], analytic: Array) -> Extrapolated:
    scheme = SCHEMES[DEFAULT_SCHEME]
    estimates = [of.estimate(scheme) for of in entries]
    value, error = _joined([e.value for e in estimates]), _joined([e.error for e in estimates])
    known = np.isfinite(error)
    scale = max(_norm(analytic), _norm(value[known]))
    return Extrapolated(
        tuple(scheme.step * rung for rung in scheme.ladder),
        _over(_norm(analytic[known] - value[known]), scale),
        _over(_norm(error[known]), scale),
        scale,
        int(np.count_nonzero(~known)),
    )


def _tolerance(report: Report, entries: Mapping[str, Entries]) -> Array:
    """What the check allows each of these entries."""
    tolerances = {c.name: c.tolerance.ravel() for c in report.comparisons}
    return _joined([tolerances[name][of.which] for name, of in entries.items()])


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.empty(0), *(np.asarray(array, dtype=np.float64) for array in arrays)])


def _norm(numbers: Array) -> float:
    """‖…‖₂, also of numbers whose squares are not numbers any more."""
    largest = float(np.abs(numbers).max(initial=0.0))
    return largest * float(np.linalg.norm(numbers / largest)) if 0 < largest < np.inf else largest


def _over(number: float, scale: float) -> float:
    """The ratio; 0 of nothing at all."""
    return 0.0 if number == 0 else float(np.float64(number) / scale)
