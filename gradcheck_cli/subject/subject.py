"""The interface of everything that can be checked, and the function that turns a check into a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.numerical.objective import Objective
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.report import Checked, Report
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.subject.said import Said
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # only wrong gradients need its package


class Subject(Protocol):
    """Gradients to check, and the function whose gradients they should be."""

    @property
    def analytic(self) -> Analytic:
        """The gradients to check."""

    @property
    def objective(self) -> Objective:
        """The function whose finite differences are taken."""

    @property
    def said(self) -> Said:
        """The description of the subject for the report."""

    def check(self, how: CheckSpec, progress: Progress | None = None, clock: Clock = now) -> Report:
        """Compare the gradients with finite differences.

        Raises `UntrustedReferenceError` if unit and literal differences contradict each other.
        """

    def kinks(self, at: Mapping[str, Array]) -> tuple[str, ...]:
        """Return short notes on the kinks that make the gradients of some entries a matter of convention.

        at: masks of the entries, by tensor.
        """

    def why(self, comparisons: Sequence[Comparison]) -> Diagnosis:
        """Return a diagnosis of the wrong gradients."""


def report_of(subject: Subject, checked: Checked, strict: bool) -> Report:
    """Return the report of a check, with a diagnosis if anything is wrong."""
    said = subject.said
    report = Report(
        checked.comparisons,
        network=said.described,
        loss_name=said.loss_name,
        loss=said.loss,
        source=subject.analytic.origin,
        scheme=checked.scheme,
        differences=checked.differences,
        rtol={c.name: c.rtol for c in checked.comparisons},
        strict=strict,
        witness=checked.witness,
        unexercised=said.unexercised,
        unusual=(*said.unusual, *checked.notes),
        kinks=subject.kinks(checked.on_kinks) if checked.on_kinks else (),
        way=checked.way,
        weighted=said.weighted,
    )
    if report.verdict is not Verdict.WRONG:
        return report
    return replace(report, diagnosis=subject.why(checked.comparisons))
