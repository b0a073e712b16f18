"""Measure the relative error of a gradient as a function of the step of each difference scheme.

The error is ‖a − n(h)‖ / max(‖a‖, ‖n‖) over the swept entries. Here `a` is the analytic gradient, n(h) is the
plain scheme's value at the step h, and n is the value that the check's default scheme extrapolates from
several steps. The denominator is the same for every h. So the error of a small gradient may exceed 1, but
this error still falls with h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.errors import ExitCode, bad_input
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES, plain_schemes
from gradcheck_cli.report import EXIT_CODES, Report
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of
from gradcheck_cli.subject.network import NetworkSubject
from gradcheck_cli.subject.subject import Subject
from gradcheck_cli.sweep.curve import Curve, Point, curve_of
from gradcheck_cli.sweep.stepping import Drawing, Entries, evaluations
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict

STEPS = tuple(2.0**-k for k in range(51))
"""The steps to sweep, measured as changes of a pre-activation: from 1 down to 2⁻⁵⁰, near machine epsilon."""


@dataclass(frozen=True)
class Extrapolated:
    """The relative error of the check's default scheme, which extrapolates from several steps.

    steps: the steps that the scheme extrapolates from.
    error: the relative error.
    bar: the error bar of `error`.
    scale: max(‖a‖, ‖n‖), the denominator of every relative error, for the analytic gradient `a` and the
        extrapolated estimate n.
    unknown: the number of entries left out because they are on kinks.
    """

    steps: tuple[float, ...]
    error: float
    bar: float
    scale: float
    unknown: int


@dataclass(frozen=True)
class Sweep:
    """The curves of one spec, measured over `swept` entries, with the report of a check of all entries."""

    curves: tuple[Curve, ...]
    adaptive: Extrapolated
    swept: int
    report: Report

    @property
    def verdict(self) -> Verdict:
        """The verdict of the check, or unresolved if the check agrees but the curves do not confirm it.

        A curve combines many entries, whereas the check looks at each entry. So a gradient that the check
        calls wrong is wrong even if no curve shows it. A gradient that the check accepts is never called
        wrong here, since a kink may explain the curve.
        """
        of_curves = [curve.verdict for curve in self.curves]
        if self.report.verdict is not Verdict.AGREES:
            return self.report.verdict
        borne_out = Verdict.AGREES in of_curves and Verdict.WRONG not in of_curves
        return Verdict.AGREES if borne_out else Verdict.UNRESOLVED

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.verdict]


@np.errstate(all="ignore")  # values that are not finite are left out of the curves
def sweep(spec: Spec, schemes: Sequence[str] = (), progress: Progress | None = None) -> Sweep:
    """Compare the checked gradients of `spec` with plain schemes at steps from 1 down to 2⁻⁵⁰.

    Raises the same errors as `check`.

    schemes: the names of the plain schemes to use. By default, all plain schemes that apply are used.
    """
    subject = subject_of(spec)
    named = _applicable(schemes, subject)
    report = subject.check(spec.check, progress)
    drawn = _drawn(subject, report, spec, progress)
    entries = list(drawn.values())
    if progress:
        progress.expect(_evaluations(entries, named))
    analytic = _joined([subject.analytic.values[name].ravel()[of.which] for name, of in drawn.items()])
    adaptive = _extrapolated(entries, analytic)
    measured: dict[str, list[Point]] = {name: [] for name in named}
    for step in STEPS:  # in this order the schemes share evaluations
        for name in named:
            measured[name].append(_measured(entries, name, step, analytic, adaptive.scale))
    allowed = _over(_norm(_tolerance(report, drawn)), adaptive.scale)
    curves = (curve_of(name, SCHEMES[name].order, measured[name], allowed) for name in named)
    return Sweep(tuple(curves), adaptive, len(analytic), report)


def _applicable(schemes: Sequence[str], subject: Subject) -> tuple[str, ...]:
    """Return the schemes to sweep, in the order of the table."""
    real_only = not isinstance(subject, NetworkSubject)
    if real_only and any(not SCHEMES[name].cancels for name in schemes):
        help = "your code may not accept complex numbers; choose another scheme"
        raise bad_input("--scheme: 'complex' cannot be used with your own code", help=help)
    plain = plain_schemes()
    wanted = schemes or [name for name in plain if not real_only or SCHEMES[name].cancels]
    return tuple(name for name in plain if name in wanted)


def _drawn(subject: Subject, report: Report, spec: Spec, progress: Progress | None) -> Mapping[str, Entries]:
    """Return, by tensor, the entries to sweep: all, or a random sample that includes the worst entry."""
    names = [name for name, value in subject.analytic.values.items() if value.size]
    worst = {c.name: c.worst(1) for c in report.comparisons}
    included = {
        c.name: int(np.ravel_multi_index(worst[c.name][0].index, c.shape))
        for c in report.comparisons
        if worst[c.name]
    }
    drawing = Drawing(included, spec.check.seed, progress)
    if not isinstance(subject, NetworkSubject):
        return drawing.of_code(subject.objective, names)
    by = drawing.by_units if spec.check.differences == "units" else drawing.by_entries
    return by(subject.objective, names)


def _evaluations(entries: Sequence[Entries], named: Sequence[str]) -> int:
    """Return the number of evaluations that the sweep needs.

    A layer's weight and bias share their evaluations.
    """
    moved = {id(numbers): len(numbers.which) for of in entries for numbers in of.losses.moved}
    return sum(moved.values()) * evaluations([SCHEMES[name] for name in named], STEPS)


def _measured(entries: Sequence[Entries], name: str, step: float, analytic: Array, scale: float) -> Point:
    stepped = [of.at(SCHEMES[name], step) for of in entries]
    apart = _norm(analytic - _joined([each.value for each in stepped]))
    noise = _norm(_joined([each.noise for each in stepped]))
    crossed = sum(int(np.count_nonzero(each.crossed)) for each in stepped)
    return Point(step, _over(apart, scale), _over(noise, scale), crossed)


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
    """Return the error that the check allows for each swept entry."""
    tolerances = {c.name: c.tolerance.ravel() for c in report.comparisons}
    return _joined([tolerances[name][of.which] for name, of in entries.items()])


def _joined(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.empty(0), *(np.asarray(array, dtype=np.float64) for array in arrays)])


def _norm(numbers: Array) -> float:
    """Return the 2-norm of the numbers, computed so that no square overflows."""
    largest = float(np.abs(numbers).max(initial=0.0))
    return largest * float(np.linalg.norm(numbers / largest)) if 0 < largest < np.inf else largest


def _over(number: float, scale: float) -> float:
    """Return number / scale, where 0 / 0 counts as 0."""
    return 0.0 if number == 0 else float(np.float64(number) / scale)
