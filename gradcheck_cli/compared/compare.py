"""Compare two sources of the same gradients, such as two ranks, two frameworks, or two releases.

Neither source is known to be right. The second source serves as the reference, as finite differences do in a
check. The error bar of the second source is the rounding error that summing in a different order could cause.
If a source has a loss, finite differences decide which of the two is wrong (`arbitrated`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.compared.source import Source
from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.diagnose import diagnosis_of_trials
from gradcheck_cli.diagnose.arrays import diagnose_arrays
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate
from gradcheck_cli.problem.problem import matching
from gradcheck_cli.report import Report
from gradcheck_cli.types import Array, precision_of
from gradcheck_cli.verdict import Verdict, default_rtol

_MOST_RANKS = 2**31
"""The largest number of ranks that a ratio may stand for."""

_ROUNDINGS = 16.0
"""The rounding error that a different order of summation may cause, in units of ε of the largest entry."""


def compared(
    first: Source,
    second: Source,
    only: Sequence[str] = (),
    rtol: float | None = None,
    strict: bool = False,
    atol: float = 0.0,
) -> Report:
    """Compare the gradients of two sources, entry by entry. The second source is the reference.

    only: patterns of the names to compare; empty to compare all.
    rtol: the relative tolerance. By default, the tolerance of a tensor depends on the narrower of its two
        floating-point types.
    atol: the absolute tolerance.

    Raises `InputError` if the sources do not contain the same arrays.
    """
    if only:
        names = _matching(tuple(first.values), only)
        first, second = first.only(names), second.only(names)
    _refuse_misfits(first, second)
    comparisons = tuple(_compared(first, second, name, rtol, atol) for name in first.values)
    report = Report(
        comparisons,
        network=_described(comparisons),
        loss_name="",
        loss=nan,
        source=first.name,
        against=second.name,
        scheme="none",
        differences="compared",
        rtol={c.name: c.rtol for c in comparisons},
        strict=strict,
    )
    if report.verdict is not Verdict.WRONG:
        return report
    return replace(report, diagnosis=_of_ranks(report, first, second) or _why(report))


def _matching(names: Sequence[str], only: Sequence[str]) -> Sequence[str]:
    try:
        return matching(names, only)
    except InputError as error:
        raise InputError(*(replace(complaint, where=()) for complaint in error.complaints)) from None


def _refuse_misfits(first: Source, second: Source) -> None:
    complaints = [*_missing(first, second), *_missing(second, first)]
    complaints += [
        _misshapen(name, first, second)
        for name, value in first.values.items()
        if name in second.values and second.values[name].shape != value.shape
    ]
    if complaints:
        raise InputError(*complaints)


def _misshapen(name: str, first: Source, second: Source) -> Complaint:
    """Return a complaint about an array with two shapes, which says so if one is the other's transpose."""
    one, other = first.values[name], second.values[name]
    message = (
        f"'{name}' has shape {list(one.shape)} in {first.name}, but {list(other.shape)} in {second.name}"
    )
    if one.ndim < 2 or one.shape != other.shape[::-1]:
        return Complaint(message)
    turned = Source(second.name, {name: other.T}, second.dtypes)
    same = _compared(first, turned, name, None, 0.0).verdict is Verdict.AGREES
    alike = f": {second.name} has the transpose, with the same values" if same else ""
    unless = "" if same else "if one of them is transposed, "
    help = f"{unless}save the array's .T in {second.name} instead"
    return Complaint(f"{message}{alike}", help=help)


def _missing(first: Source, second: Source) -> Iterator[Complaint]:
    names = [name for name in first.values if name not in second.values]
    if names:
        help = "to compare arrays with different names, add --name THIS=THAT"
        yield Complaint(f"{second.name} has no {listed(names)}, which {first.name} has", help=help)


def _compared(first: Source, second: Source, name: str, rtol: float | None, atol: float) -> Comparison:
    ours, reference = (np.asarray(source.values[name], dtype=np.float64) for source in (first, second))
    types = [source.dtypes[name] for source in (first, second)]
    eps = [precision_of(dtype).eps for dtype in types]
    rounding = np.full(ours.shape, _ROUNDINGS * eps[0] * _largest(ours))
    error = np.full(ours.shape, _ROUNDINGS * eps[1] * _largest(reference) / ERROR_BARS)
    error[~np.isfinite(reference)] = np.inf
    tolerance = rtol or max(map(default_rtol, types))
    return compare(name, ours, Estimate(reference, error), rounding, tolerance, max(eps), atol=atol)


def _largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _described(comparisons: Sequence[Comparison]) -> str:
    numbers = sum(c.entries for c in comparisons)
    return f"{len(comparisons)} tensor{'s' if len(comparisons) != 1 else ''} of {numbers:,} numbers"


# --- why they differ ----------------------------------------------------------------------------------------


def _why(report: Report) -> Diagnosis:
    found = diagnose_arrays(report.comparisons, share_code=False)
    return replace(found, basis="two sources")


def _of_ranks(report: Report, first: Source, second: Source) -> Diagnosis | None:
    """Return a diagnosis if the sources differ by a whole factor: one adds up ranks, the other averages."""
    wrong = [c.name for c in report.comparisons if c.verdict is Verdict.WRONG]
    less, more = sorted((first, second), key=lambda source: max(_largest(source.values[n]) for n in wrong))
    ratio = _ratio(more, less, wrong)
    count = round(abs(ratio)) if abs(ratio) < _MOST_RANKS else 0
    factor = np.copysign(count, ratio)
    if count < 2 or not all(_is_multiple(more, less, name, factor, report.rtol[name]) for name in wrong):
        return None
    rest = [c.name for c in report.comparisons if c.name not in wrong and np.any(first.values[c.name])]
    where = listed(wrong) if rest else "every tensor"
    times = f"{count} times {less.name}{' with the opposite sign' if ratio < 0 else ''}"
    sums = f"adds up {count} ranks, micro-batches or samples, and {less.name} averages them"
    return diagnosis_of_trials([f"In {where}, {more.name} is {times}: perhaps {more.name} {sums}"])


def _ratio(more: Source, less: Source, names: Sequence[str]) -> float:
    """Return the factor that brings the tensors of `less` closest to those of `more`."""
    larger, smaller = (
        np.concatenate([np.ravel(source.values[name]).astype(np.float64) for name in names])
        for source in (more, less)
    )
    return float(larger @ smaller) / (float(smaller @ smaller) or 1.0)


def _is_multiple(more: Source, less: Source, name: str, factor: float, rtol: float) -> bool:
    """Return whether a tensor in `more` is `factor` times the tensor in `less`, within the tolerance."""
    larger, smaller = (np.asarray(source.values[name], dtype=np.float64) for source in (more, less))
    eps = max(float(np.finfo(source.dtypes[name]).eps) for source in (more, less))
    apart = np.abs(larger - factor * smaller)
    return bool((apart <= rtol * np.abs(larger) + _ROUNDINGS * eps * _largest(larger)).all())


def arbitrated(report: Report, checks: Mapping[str, Report]) -> Report:
    """Return the report, with a note about each source whose gradients were checked against its own loss.

    checks: the report on each such source, by the source's name.
    """
    return replace(report, unusual=tuple(_judgement(name, check) for name, check in checks.items()))


def _judgement(name: str, check: Report) -> str:
    says = {
        Verdict.AGREES: f"finite differences of the loss in {name} agree with the gradients in {name}",
        Verdict.WRONG: f"finite differences of the loss in {name} disagree with the gradients in {name}",
        Verdict.UNRESOLVED: f"finite differences cannot decide whether the gradients in {name} are right",
    }
    return says[check.verdict]
