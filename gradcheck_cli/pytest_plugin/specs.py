"""Run specs as tests in pytest. Each tensor of a spec is one test, with a result of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import chdir
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from _pytest._code.code import ReprFileLocation, TerminalRepr  # pytest has no public names for these

from gradcheck_cli.checker import check
from gradcheck_cli.errors import InputError
from gradcheck_cli.formats import render
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.view import view_of
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.parallel.executors import jobs_of
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.spec.file import read_spec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import tensors_of
from gradcheck_cli.testing import FailedCheckError, failure_of
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from _pytest._io import TerminalWriter

_T = TypeVar("_T")


class GradientSpec(pytest.File):
    """A spec file with one test per tensor. The spec is checked when the first of its tests runs."""

    def collect(self) -> Sequence[Tensor | Unchecked]:
        """Return one test per tensor, or a single failing test if the spec cannot be read."""
        try:
            names = self._ask(tensors_of)
        except InputError as error:
            return [Unchecked.from_parent(self, name="spec", error=error)]
        return [Tensor.from_parent(self, name=escaped(name), tensor=name) for name in names]

    @cached_property
    def report(self) -> Report:
        """The report of the check, which runs when this property is first read."""
        return self._ask(self._checked)

    def _checked(self, spec: Spec) -> Report:
        given = self.config.getoption("gradcheck_jobs")
        if given is None:
            return check(spec)
        if isinstance(jobs := jobs_of(given), str) and jobs != "auto":
            return check(spec, executor=jobs)
        how = spec.check.model_copy(update={"jobs": jobs})
        return check(spec.model_copy(update={"check": how}))

    @property
    def shown(self) -> str:
        """The spec's path relative to the folder where pytest was started."""
        return os.path.relpath(self.path, self.config.invocation_params.dir)

    def _ask(self, question: Callable[[Spec], _T]) -> _T:
        """Read the spec and return `question(spec)`.

        Both steps run in the folder where pytest was started, even if a test has changed the current folder.
        """
        with chdir(self.config.invocation_params.dir):
            read = read_spec(self.shown)
            try:
                return question(read.spec)
            except InputError as error:
                raise read.located(error) from None


class Tensor(pytest.Item):
    """A test that passes if the gradient of one tensor agrees as strictly as the spec demands."""

    parent: GradientSpec

    def __init__(self, *, tensor: str, **others: Any) -> None:
        super().__init__(**others)
        self.tensor = tensor

    def runtest(self) -> None:
        """Run the check, and raise a `FailedCheckError` if the tensor's gradient does not agree."""
        report = self.parent.report
        alone = report.of(self.tensor)
        if report.verdict_of(*alone.comparisons) is not Verdict.AGREES:
            raise failure_of(alone)

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Return the spec's path, no line number, and the heading for the failure."""
        return self.path, None, f"{self.parent.name}: {self.name}"

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None
    ) -> str | TerminalRepr:
        """Return the failure as text, in the same form as the command prints it."""
        if isinstance(excinfo.value, FailedCheckError):
            return _Found(self.parent.shown, excinfo.value.report)
        if isinstance(excinfo.value, InputError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class Unchecked(pytest.Item):
    """A failing test for a spec that cannot be read, so that other specs are still tested."""

    parent: GradientSpec

    def __init__(self, *, error: InputError, **given: Any) -> None:
        super().__init__(**given)
        self._error = error

    def runtest(self) -> None:
        """Raise the error that says why the spec cannot be read."""
        raise self._error

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Return the spec's path, no line number, and the heading for the failure."""
        return self.path, None, f"{self.parent.name}: {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Return the text of the error that says why the spec cannot be read."""
        return str(self._error)


class _Found(TerminalRepr):
    """The failure of one tensor: a table like the command's, and one sentence for pytest's summary."""

    def __init__(self, spec: str, report: Report) -> None:
        self.reprcrash = ReprFileLocation(spec, 1, escaped(sentence(report)))
        self._run = Run((Outcome(spec, report),))

    def toterminal(self, tw: TerminalWriter) -> None:
        """Print the report on the tensor as a table."""
        view = view_of("always" if tw.hasmarkup else "never")
        tw.line(render("table", self._run, view).rstrip("\n"))
