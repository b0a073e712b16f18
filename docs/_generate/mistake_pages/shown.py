"""Run the check and the diagnosis on numpy programs, each with one kind of mistake."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import CodeType

import numpy as np

from gradcheck_cli.diagnose.diagnosis import Cause
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.mutate.mutate import NOTICEABLE
from gradcheck_cli.report import Report
from gradcheck_cli.verdict import Verdict
from mistake_pages.edit import Edit
from mistake_pages.examples import EXAMPLES
from mistake_pages.program import Arrays, Program


@dataclass(frozen=True, eq=False)
class Shown:
    """A mistake in an example in which the diagnosis names it.

    edit: the program with and without the mistake.  report: the check of the wrong gradients.
    answer: the place of the mistake among the answers; 0 unless another one has the same gradients here.
    """

    wrong: Wrong
    example: Program
    edit: Edit
    report: Report
    answer: int

    @property
    def cause(self) -> Cause:
        return self._causes[self.answer]

    @property
    def first(self) -> Cause:
        """The first answer of the diagnosis."""
        return self._causes[0]

    @property
    def _causes(self) -> Sequence[Cause]:
        assert self.report.diagnosis is not None
        return [answer.causes[0] for answer in self.report.diagnosis.answers]


def run(example: Program, program: str, arrays: Arrays) -> dict[str, np.ndarray] | None:
    """Return every variable of a program after a run; None if the program does not fit these arrays."""
    namespace = {name: array.copy() for name, array in arrays.items()}
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            exec(_compiled(program), namespace)
    except (NameError, ValueError, IndexError, TypeError):
        return None
    own = example.names.values()
    gradients = {name: np.asarray(namespace[f"dL_d{name}"], np.float64) for name in own}
    fits = all(gradient.shape == arrays[name].shape for name, gradient in gradients.items())
    return namespace | {f"dL_d{name}": gradient for name, gradient in gradients.items()} if fits else None


@cache
def _compiled(program: str) -> CodeType:
    return compile(program, "<program>", "exec")


def differ(example: Program, one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Return whether the gradients of two runs of an example differ by enough to matter to a check."""
    names = [f"dL_d{name}" for name in example.names.values()]
    largest = max(float(np.abs(other[name]).max()) for name in names)
    for name in names:
        size = max(float(np.abs(other[name]).max()), _ROUNDING * largest)
        if not (np.abs(one[name] - other[name]) <= NOTICEABLE * size).all():
            return True
    return False


_ROUNDING = 1e-12
"""A tensor is 0 up to rounding if its largest entry is smaller than this share of the largest of all."""


def checked(example: Program, program: str) -> Report | None:
    """Check the gradients that a program computes; None if the program does not fit the example."""
    found = run(example, program, example.arrays)
    if found is None:
        return None
    subject = example.subject
    values = {name: found[f"dL_d{example.names[name]}"] for name in subject.analytic.values}
    analytic = Analytic(values, dict.fromkeys(values, np.dtype(np.float64)), "gradients.npz")
    return replace(subject, analytic=analytic).check(example.spec.check, looks=example.looks)


@cache
def show(wrong: Wrong) -> Shown | None:
    """Return an example in which the diagnosis names the mistake, as its first answer if possible."""
    found = list(_named(wrong))
    return next((shown for shown in found if shown.answer == 0), next(iter(found), None))


def _named(wrong: Wrong) -> Iterator[Shown]:
    """Yield the examples in which the mistake is named, up to one in which it is named first."""
    for example in EXAMPLES:
        edit = Edit(example.program, wrong.code)
        report = checked(example, edit.result) if edit.fits else None
        place = None if report is None else _place_of(wrong, report)
        if report is not None and place is not None:
            yield Shown(wrong, example, edit, report, place)
            if place == 0:
                return


def _place_of(wrong: Wrong, report: Report) -> int | None:
    """Return the position of the first answer that is this mistake alone; None if there is none."""
    if report.verdict is not Verdict.WRONG or report.diagnosis is None:
        return None
    answers = report.diagnosis.answers
    causes = ([cause.kind for cause in answer.causes] for answer in answers)
    alone = (i for i, kinds in enumerate(causes) if len(kinds) == 1 and wrong.is_said_by(kinds))
    return next(alone, None)
