"""Workflow commands of GitHub Actions, which appear as annotations on the lines of a spec.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gradcheck_cli.comparison import Comparison, three_digits
from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.formats.files import PLAIN, told_from
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.numbers import count
from gradcheck_cli.formats.words.tensors import describe
from gradcheck_cli.formats.words.verdicts import one_line, summary
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict

WRITTEN = PLAIN

MOST = 10
"""GitHub shows at most this many errors and as many warnings per step. Only the worst ones are printed."""


@dataclass(frozen=True)
class Annotation:
    """A workflow command.

    At most `MOST` errors and `MOST` warnings are printed: those with the largest `badness`.
    """

    kind: Literal["error", "warning", "notice"]
    title: str
    message: str
    file: str = ""
    position: Position | None = None
    badness: float = 0.0


def render(run: Run, view: View) -> str:
    """Return one line per spec, for readers of the log, followed by the annotations.

    If there are several specs, a summary comes last.
    """
    annotations = [annotation for outcome in run.outcomes for annotation in _annotations(outcome)]
    lines = [escaped(one_line(outcome)) for outcome in run.outcomes]
    lines += [_command(annotation, view) for annotation in _worst(annotations)]
    if len(run.outcomes) > 1:
        lines.append(summary(run))
    return "\n".join(lines) + "\n"


def _annotations(outcome: Outcome) -> Iterator[Annotation]:
    if outcome.report is None:
        yield from (_of_complaint(outcome, complaint) for complaint in outcome.complaints)
        return
    for comparison in outcome.report.comparisons:
        if outcome.report.verdict_of(comparison) is not Verdict.AGREES:
            yield _of_tensor(outcome, outcome.report, comparison)


def _of_complaint(outcome: Outcome, complaint: Complaint) -> Annotation:
    """Return the annotation for a complaint about a spec.

    This annotation ranks above the annotations of all gradients, since a spec with a complaint was not
    checked.
    """
    title = "gradcheck itself failed" if outcome.exit_code is ExitCode.DEFECT else "not checked"
    message = complaint.message + (f"\nhelp: {complaint.help}" if complaint.help else "")
    file = complaint.position.file if complaint.position else outcome.spec
    return Annotation("error", title, message, file, complaint.position, math.inf)


def _of_tensor(outcome: Outcome, report: Report, comparison: Comparison) -> Annotation:
    wrong = comparison.verdict is Verdict.WRONG
    return Annotation(
        "error" if wrong else "warning",
        f"{comparison.name}: {'wrong gradient' if wrong else 'unresolved'}",
        "\n".join(describe(report, comparison)),
        outcome.spec,
        outcome.places.get(comparison.name),
        comparison.max_relative_error,
    )


def _worst(annotations: list[Annotation]) -> Iterator[Annotation]:
    for kind in ("error", "warning"):
        of_kind = [annotation for annotation in annotations if annotation.kind == kind]
        yield from sorted(of_kind, key=_badness, reverse=True)[:MOST]
        if len(of_kind) > MOST:
            more = count(len(of_kind) - MOST, f"more {kind}")
            yield Annotation("notice", "gradcheck", f"+{more}; see the report or the log")


def _badness(annotation: Annotation) -> float:
    """Return an annotation's badness as a sort key; NaN ranks lowest.

    The key is rounded as in the report, so that tensors shown with the same error keep their order.
    """
    return -1.0 if math.isnan(annotation.badness) else float(three_digits(annotation.badness))


def _command(annotation: Annotation, view: View) -> str:
    """Format an annotation as a workflow command: ``::error file=net.yaml,line=7,col=7,title=…::…``."""
    properties = {"file": annotation.file and told_from(view.root, annotation.file)}
    if properties["file"] and annotation.position:
        properties |= {"line": str(annotation.position.line), "col": str(annotation.position.column)}
    properties["title"] = annotation.title
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{annotation.kind} {written}::{_data(annotation.message)}"


def _data(text: str) -> str:
    return escaped(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
