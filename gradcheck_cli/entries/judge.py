"""Judge the gradients of one subject by the numerical estimates available so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.comparison import Comparison, Projected, Verdict, by_convention, compare, default_rtol
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import alternatives
from gradcheck_cli.numerical.reference import Estimates, Reference
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.subject.subject import Subject
from gradcheck_cli.types import Array

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # only wrong gradients need its package

Masks = dict[str, Array]
"""Masks of entries by tensor; tensors without any marked entry are left out."""


class Judge:
    """Compares the gradients of a subject, and caches each comparison as long as its estimate is the same."""

    def __init__(self, subject: Subject, how: CheckSpec) -> None:
        self.subject = subject
        self.how = how
        self._kept: dict[str, tuple[Estimate, Comparison]] = {}

    def compare(self, estimates: Estimates) -> list[Comparison]:
        """Return the comparison of every tensor, in the order of the table."""
        return [self._of(name, estimates[name]) for name in self.subject.analytic.values]

    def compare_one(self, name: str, estimate: Estimate, projected: Projected | None = None) -> Comparison:
        """Return the comparison of one tensor.

        projected: what is known of the entries that were not checked individually.
        """
        analytic = self.subject.analytic
        return compare(
            name,
            analytic.values[name],
            estimate,
            self.subject.rounding[name],
            self.rtol(name),
            float(np.finfo(analytic.dtypes[name]).eps),
            self.subject.size,
            projected,
        )

    def rtol(self, name: str) -> float:
        return self.how.rtol or default_rtol(self.subject.analytic.dtypes[name])

    def marked(self, estimates: Estimates, *kinds: str) -> Masks:
        """Return the entries of any of these kinds, which are properties of `Comparison`."""
        masks = {
            c.name: reduce(np.logical_or, (getattr(c, kind) for kind in kinds))
            for c in (self._of(name, estimate) for name, estimate in estimates.items())
        }
        return {name: mask for name, mask in masks.items() if mask.any()}

    def settled(
        self,
        reference: Reference,
        estimates: Estimates,
        among: Mapping[str, Array] | None = None,
        worst: bool = True,
    ) -> Estimates:
        """Return the estimates after more steps for the entries that need them.

        Entries that agree need no more steps; entries that are far off need one. The rest get the whole
        ladder, and those still open get wider arithmetic.
        among: the entries that may get more steps.
        worst: whether the worst entry gets the whole ladder as well.
        """

        def marked(*kinds: str) -> Masks:
            found = self.marked(estimates, *kinds)
            if among is not None:
                found = {name: mask & among[name] for name, mask in found.items()}
            return {name: mask for name, mask in found.items() if mask.any()}

        if wrong := marked("wrong"):
            estimates = reference.confirm(estimates, wrong)
        if undecided := marked("open", "doubtful", *(["worst_wrong"] if worst else [])):
            estimates = reference.refine(estimates, undecided)
        if still_open := marked("still_open"):
            estimates = reference.sharpen(estimates, still_open)
        return estimates

    def by_convention(
        self, reference: Reference, estimates: Estimates, undecided: Mapping[str, Array]
    ) -> tuple[Estimates, Masks]:
        """Set each entry on a kink to the conventional value nearest to its gradient; also return masks."""
        kinks = alternatives(reference, estimates, undecided)
        chosen = {
            name: by_convention(
                self.subject.analytic.values[name].astype(np.float64),
                estimates[name],
                kinks[name],
                self.subject.rounding[name],
                self.rtol(name),
            )
            for name in kinks
        }
        return estimates | chosen, {name: of.at for name, of in kinks.items()}

    def report(
        self,
        comparisons: list[Comparison],
        scheme: str,
        differences: str,
        on_kinks: Masks,
        witness: Witness | None = None,
        way: str = "",
    ) -> Report:
        """Return the report of these comparisons, with a diagnosis if anything is wrong."""
        subject = self.subject
        report = Report(
            tuple(comparisons),
            network=subject.described,
            loss_name=subject.loss_name,
            loss=subject.loss,
            source=subject.analytic.origin,
            scheme=scheme,
            differences=differences,
            rtol={c.name: c.rtol for c in comparisons},
            strict=self.how.strict,
            witness=witness,
            unexercised=subject.unexercised,
            unusual=subject.unusual,
            kinks=subject.kinks(on_kinks) if on_kinks else (),
            way=way,
            weighted=subject.weighted,
        )
        return (
            report
            if report.verdict is not Verdict.WRONG
            else replace(report, diagnosis=self._why(comparisons))
        )

    def _why(self, comparisons: list[Comparison]) -> Diagnosis:
        from gradcheck_cli.diagnose import diagnose, diagnosis_of_trials  # load it only if needed

        subject = self.subject
        wrong = {c.name for c in comparisons if c.verdict is Verdict.WRONG}
        shown = [finding.sentence for finding in subject.findings if wrong & set(finding.tensors)]
        if shown:
            return diagnosis_of_trials(shown)
        known = comparisons, subject.problem, subject.code is None, subject.samples
        return diagnose(*known, in_out=subject.in_out, loss=subject.analytic.loss)

    def _of(self, name: str, estimate: Estimate) -> Comparison:
        kept = self._kept.get(name)
        if kept is None or kept[0] is not estimate:
            kept = self._kept[name] = estimate, self.compare_one(name, estimate)
        return kept[1]
