"""Write the files that --report names.

A file that cannot be written is rejected before the work starts. Every other file is written completely or
not at all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcheck_cli.cli.terminal import complain, say
from gradcheck_cli.errors import Complaint, ExitCode, Gathered, InputError, did_you_mean, worst
from gradcheck_cli.files.output import Output
from gradcheck_cli.formats import FORMATS, may_replace, refuse_missing, render
from gradcheck_cli.formats.view import View

if TYPE_CHECKING:
    from gradcheck_cli.report import Run


_OPTION = "--report"


@dataclass(frozen=True)
class ReportFile:
    """The format and the file of a report to write."""

    format: str
    file: Output


def report_files(named: Sequence[str], specs: Collection[str]) -> tuple[ReportFile, ...]:
    """Parse each FORMAT=FILE given to --report. Raises `InputError` if one of the files cannot be written.

    specs: input files, which must not be overwritten.
    """
    if not named:
        return ()
    gathered, taken, reports = Gathered(), {os.path.realpath(spec): "a spec" for spec in specs}, []
    for name in named:
        with gathered:
            report = _parsed(name)
            _refuse_taken(report, taken)
            _refuse_unwritable(report)
            reports.append(report)
    gathered.raise_any()
    return tuple(reports)


def _parsed(name: str) -> ReportFile:
    format, equals, file = name.partition("=")
    if not equals:
        raise _refused(f"'{name}' must be FORMAT=FILE, such as junit=report.xml")
    if format not in FORMATS:
        raise _refused(
            f"unknown format '{format}'; choose one of {', '.join(FORMATS)}", did_you_mean(format, FORMATS)
        )
    if not file:
        raise _refused(f"'{name}' names no file; it must be FORMAT=FILE")
    if file == "-":
        raise _refused("a report goes to a file, not to standard output", f"--format {format} prints it")
    refuse_missing(format)
    return ReportFile(format, Output(_OPTION, file))


def _refuse_taken(report: ReportFile, taken: dict[str, str]) -> None:
    target = str(report.file.target)
    if target in taken:
        raise report.file.refused(f"is {taken[target]}; each report needs a file of its own")
    taken[target] = "another report's file"


def _refuse_unwritable(report: ReportFile) -> None:
    """Raise `InputError` before the work starts if the file cannot be written."""
    report.file.refuse_file("a report is a file")
    target = report.file.target
    with report.file.failures():
        if target.exists() and not may_replace(report.format, target):
            raise report.file.refused(
                f"exists and is not a {report.format} report, so it is not overwritten",
                "name another file, or delete it",
            )


def _refused(message: str, help: str | None = None) -> InputError:
    return InputError(Complaint(f"{_OPTION}: {message}", help=help))


def write_reports(reports: Sequence[ReportFile], run: Run, view: View, code: int) -> int:
    """Write each report and return the exit code: `code`, or a worse one if a report cannot be written."""
    for report in reports:
        text = render(report.format, run, _for_files(view))
        try:
            with report.file.whole() as new:
                new.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        except InputError as error:
            complain(*error.complaints)
            code = worst((ExitCode(code), error.exit_code))
    return int(code)


# --- the job summary on GitHub ------------------------------------------------------------------------

_SUMMARY = "GITHUB_STEP_SUMMARY"
_SUMMARY_HOLDS = 2**20
"""GitHub's limit on the summary of one step, in bytes. A larger summary is dropped."""


def add_to_summary(formats: set[str], run: Run, view: View) -> None:
    """Append the run to the job summary on GitHub if `formats` includes github or markdown.

    If that fails, print a note; the exit code does not change.
    """
    file = os.environ.get(_SUMMARY)
    if not file or formats.isdisjoint(("github", "markdown")):
        return
    try:
        with open(file, "ab") as summary:
            summary.write(_summary(run, _for_files(view), _SUMMARY_HOLDS - summary.tell()))
    except OSError as error:
        say(f"note: nothing was added to {_SUMMARY}: {error.strerror or error}")


def _summary(run: Run, view: View, room: int) -> bytes:
    """Return the full summary if it fits into `room` bytes; otherwise one line per spec.

    If even one line per spec does not fit, the result is empty.
    """
    for level in (view.level, -1):
        text = render("markdown", run, replace(view, level=level)).encode("utf-8", "backslashreplace")
        if len(text) <= room:
            return text
    return b""


def _for_files(view: View) -> View:
    """Return the view for files, whose settings do not depend on the terminal."""
    return replace(view, width=None, color=False, ascii=False, level=max(view.level, 0))
