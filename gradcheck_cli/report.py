"""The results of checks, specs and whole runs, and the exit codes that they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradcheck_cli.comparison import Comparison, Entry, median, three_digits
from gradcheck_cli.errors import Complaint, ExitCode, Position, worst
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict, overall

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # loads only if something is wrong

EXIT_CODES = {
    Verdict.AGREES: ExitCode.AGREES,
    Verdict.WRONG: ExitCode.WRONG,
    Verdict.UNRESOLVED: ExitCode.UNDECIDED,
}


@dataclass(frozen=True)
class Witness:
    """A comparison of literal differences with unit differences, at randomly drawn entries.

    entries: the number of entries drawn.
    largest: the largest difference between the two methods, divided by the allowed difference (mainly the sum
        of both error bars).
    complex_step: the largest difference between literal differences and the complex step, at one entry per
        tensor, divided by the allowed difference.
    """

    entries: int
    largest: float
    complex_step: float = 0.0


@dataclass(frozen=True)
class Resolution:
    """Statistics over all entries of the smallest relative error that would have been called wrong."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Checked:
    """The findings of a check, before the diagnosis.

    differences: the method: `units`, `literal` or `directions`.
    on_kinks: masks, by tensor, of the entries on a kink, whose gradient is a matter of convention.
    way: a sentence on how the user's code was checked and why; empty for a network.
    notes: short notes on what gradcheck could not do.
    """

    comparisons: tuple[Comparison, ...]
    scheme: str
    differences: str
    on_kinks: Mapping[str, Array]
    witness: Witness | None = None
    way: str = ""
    notes: tuple[str, ...] = ()


NOT_ESTIMATED = "every step crosses a kink or overflows"
"""The reason why differences of a network can fail to estimate an entry."""


def has_no_estimate(comparison: Comparison) -> bool:
    """Return whether differences failed to estimate an entry, or the slope along a random direction."""
    unknown = comparison.unresolved & ~np.isfinite(comparison.error)
    if (unknown & comparison.measured).any() or comparison.projected is None:
        return bool((unknown & comparison.measured).any())
    slopes = [each.error for each in comparison.projected.directions]
    return bool(unknown.any()) and not (slopes and np.isfinite(slopes).all())


RTOLS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
"""The tolerances worth suggesting. A larger tolerance would let real mistakes pass."""


@dataclass(frozen=True)
class Report:
    """The result of checking one spec, with one comparison per tensor, starting with the output layer.

    A notebook shows the report as a table, and rich prints the report as the command does.

    way: a sentence on how the user's code was checked and why; empty for a network.
    diagnosis: why the gradient is wrong; None if it is not wrong.
    not_estimated: the reason why differences could not estimate some entries, if there are any.
    against: the other source, if the gradients of two sources were compared; empty if gradients were compared
        with finite differences.
    weighted: a sentence or two on how the loss that was checked differs from the loss in the user's code;
        empty if it does not differ.
    """

    comparisons: tuple[Comparison, ...]
    network: str
    loss_name: str
    loss: float
    source: str
    scheme: str
    differences: str
    rtol: Mapping[str, float]
    strict: bool = False
    witness: Witness | None = None
    unexercised: tuple[str, ...] = ()
    unusual: tuple[str, ...] = ()
    kinks: tuple[str, ...] = ()
    way: str = ""
    diagnosis: Diagnosis | None = None
    weighted: str = ""
    against: str = ""
    not_estimated: str = NOT_ESTIMATED

    @property
    def passed(self) -> bool:
        """Whether the verdict is that the gradients agree."""
        return self.verdict is Verdict.AGREES

    @cached_property
    def verdict(self) -> Verdict:
        """The overall verdict: wrong if any tensor is wrong, unresolved if any is unresolved, else agrees.

        If all gradients are 0, the verdict is unresolved. With `strict`, a single unresolved entry or a
        single tensor of zeros makes the verdict unresolved.
        """
        return overall([self.verdict_of(c) for c in self.comparisons])

    def verdict_of(self, comparison: Comparison) -> Verdict:
        """Return the verdict to show for a tensor.

        The verdict is unresolved if the tensor is a reason why the report is unresolved. Otherwise, the
        verdict is the tensor's own.
        """
        open_strictly = comparison.unresolved.any() or comparison.untested
        doubtful = self.entries == self.zero or (self.strict and open_strictly)
        if doubtful and comparison.verdict is not Verdict.WRONG:
            return Verdict.UNRESOLVED
        return comparison.verdict

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command for this report."""
        return EXIT_CODES[self.verdict]

    def of(self, name: str) -> Report:
        """Return a report on one tensor, with the diagnosis if that tensor is wrong."""
        (alone,) = (c for c in self.comparisons if c.name == name)
        diagnosis = self.diagnosis if alone.verdict is Verdict.WRONG else None
        return replace(self, comparisons=(alone,), rtol={name: alone.rtol}, diagnosis=diagnosis)

    @property
    def entries(self) -> int:
        """The number of checked entries."""
        return sum(c.entries for c in self.comparisons)

    @property
    def agree(self) -> int:
        """The number of entries that agree."""
        return sum(int(np.count_nonzero(c.agrees)) for c in self.comparisons)

    @property
    def projected(self) -> int:
        """The number of entries that agree along random directions and were not checked individually."""
        return sum(int(np.count_nonzero(c.covered & c.agrees)) for c in self.comparisons)

    @property
    def suspect(self) -> int:
        """The number of unresolved entries in wrong rows, columns or tensors."""
        return sum(int(np.count_nonzero(c.suspect)) for c in self.comparisons)

    @property
    def by_atol(self) -> int:
        """The number of entries that agree only because of the absolute tolerance."""
        return sum(int(np.count_nonzero(c.by_atol)) for c in self.comparisons)

    @property
    def atol(self) -> float:
        """The absolute tolerance of every tensor."""
        return max((c.atol for c in self.comparisons), default=0.0)

    @property
    def wrong(self) -> int:
        """The number of wrong entries."""
        return sum(int(np.count_nonzero(c.wrong)) for c in self.comparisons)

    @property
    def unresolved(self) -> int:
        """The number of unresolved entries."""
        return sum(int(np.count_nonzero(c.unresolved)) for c in self.comparisons)

    @property
    def zero(self) -> int:
        """The number of entries that are 0 on both sides."""
        return sum(int(np.count_nonzero(c.zero)) for c in self.comparisons)

    @property
    def untested(self) -> tuple[str, ...]:
        """The names of the tensors whose gradient is 0 on both sides; empty if every gradient is 0."""
        return () if self.entries == self.zero else tuple(c.name for c in self.comparisons if c.untested)

    @cached_property
    def deciding_rtol(self) -> float | None:
        """The smallest tolerance in `RTOLS` at which every entry agrees; None if none is large enough."""
        for rtol in RTOLS:
            wider = [replace(c, rtol=max(c.rtol, rtol)) for c in self.comparisons]
            if all(c.agrees.all() for c in wider):
                return rtol
        return None

    @cached_property
    def ratio(self) -> float | None:
        """The ratio analytic / numerical, if it is the same in every wrong tensor; otherwise None."""
        wrong = [c for c in self.comparisons if c.verdict is Verdict.WRONG]
        ratios = [c.ratio for c in wrong if c.ratio is not None]
        if not ratios or len(ratios) < len(wrong):
            return None
        same = max(ratios) - min(ratios) <= 1e-5 * abs(ratios[0])
        return ratios[0] if same else None

    @cached_property
    def resolution(self) -> Resolution | None:
        """Statistics of the smallest detectable error in each entry; None if all entries are 0 on both sides.

        Entries that are 0 on both sides do not count.
        """
        return resolution_of(self.comparisons)

    def worst(self, count: int) -> list[tuple[str, Entry]]:
        """Return the worst entries of all tensors, each with its tensor's name."""
        rank = {Verdict.WRONG: 0, Verdict.UNRESOLVED: 1, Verdict.AGREES: 2}
        entries = [(c.name, entry) for c in self.comparisons for entry in c.worst(count)]
        return sorted(
            entries,
            key=lambda named: (rank[named[1].verdict], -_sortable(three_digits(named[1].relative_error))),
        )[:count]

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows for the report: the verdict, its cause and a table."""
        html: str = _shown().as_html(self)
        return html

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield what the command prints for this report, so that rich can print it."""
        yield _shown().as_text(self, options.max_width, options.ascii_only)


def _shown() -> Any:
    """Return the module that displays reports. The module is loaded late because it imports this one."""
    return import_module("gradcheck_cli.formats.shown")


def resolution_of(comparisons: Sequence[Comparison]) -> Resolution | None:
    """Return statistics of the smallest detectable error in each entry.

    Entries that are 0 on both sides do not count. Returns None if no other entries exist.
    """
    needed = np.concatenate([c.resolution[~c.zero & np.isfinite(c.analytic)] for c in comparisons])
    if not needed.size:
        return None
    return Resolution(float(needed.min()), median(needed), float(needed.max()))


def _sortable(relative_error: float) -> float:
    return -1.0 if np.isnan(relative_error) else relative_error


class Timed(NamedTuple):
    """A report, and the seconds that the check took."""

    report: Report
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of one spec: a report or, if the spec could not be checked, the complaints.

    seconds: how long the check took.
    places: for each tensor, the position of its layer in the spec; None if the position is unknown.
    """

    spec: str
    report: Report | None = None
    complaints: tuple[Complaint, ...] = ()
    failure: ExitCode = ExitCode.BAD_INPUT
    seconds: float = 0.0
    places: Mapping[str, Position | None] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command for this spec."""
        return self.failure if self.report is None else self.report.exit_code


@dataclass(frozen=True)
class Run:
    """The outcomes of all specs in one run."""

    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The worst exit code of all specs; 3 if there are no specs."""
        return worst(outcome.exit_code for outcome in self.outcomes)
