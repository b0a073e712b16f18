"""The verdicts of one subject: its gradients held against whatever is known of them so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.compare import Comparison, Projected, Verdict, by_convention, compare, default_rtol
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import alternatives
from gradcheck_cli.numerical.reference import Estimates, Reference
from gradcheck_cli.report import Report, Witness
from gradcheck_cli.spec import CheckSpec
from gradcheck_cli.subject import Subject

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Diagnosis  # its package is for what is wrong

Masks = dict[str, Array]
"""Which entries are meant, by tensor, of the tensors that have any."""


class Judge:
    """Compares the gradients of a subject; a comparison is kept as long as its estimate is."""

    def __init__(self, subject: Subject, how: CheckSpec) -> None:
        self.subject = subject
        self.how = how
        self._kept: dict[str, tuple[Estimate, Comparison]] = {}

    def compare(self, estimates: Estimates) -> list[Comparison]:
        """Of every tensor, in the order of the table."""
        return [self._of(name, estimates[name]) for name in self.subject.analytic.values]

    def compare_one(self, name: str, estimate: Estimate, projected: Projected | None = None) -> Comparison:
        """Of one tensor; projected: what is known of the entries that were not moved by themselves."""
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
        """The entries that are of one of these kinds, properties of a `Comparison`."""
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
        """The estimates after more steps for what needs them; among: the entries that may get them.

        What agrees needs none, what is wrong by far one more; the rest gets all of them, and what these leave
        open wider arithmetic. worst: whether the entry that is the most wrong gets all of them, too.
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
        """Give the entries on a kink the usual value nearest to their gradient; and which these are."""
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
        """What was found, with what there is to know about it."""
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
        from gradcheck_cli.diagnose import diagnose, diagnosis_of_trials  # only what is wrong pays for it

        subject = self.subject
        wrong = {c.name for c in comparisons if c.verdict is Verdict.WRONG}
        shown = [finding.sentence for finding in subject.findings if wrong & set(finding.tensors)]
        if shown:
            return diagnosis_of_trials(shown)
        known = comparisons, subject.problem, subject.code is None, subject.samples
        return diagnose(*known, in_out=subject.in_out, loss=subject.authors_loss)

    def _of(self, name: str, estimate: Estimate) -> Comparison:
        kept = self._kept.get(name)
        if kept is None or kept[0] is not estimate:
            kept = self._kept[name] = estimate, self.compare_one(name, estimate)
        return kept[1]
