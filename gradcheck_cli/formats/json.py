"""Render a run as a versioned object in strict JSON, in which numbers that are not finite become null."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck_cli.comparison import Comparison, Entry
from gradcheck_cli.errors import Complaint, ExitCode
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.pages import page_of
from gradcheck_cli.formats.view import View
from gradcheck_cli.report import Outcome, Report, Resolution, Run, has_no_estimate, resolution_of

if TYPE_CHECKING:
    from gradcheck_cli.diagnose.diagnosis import Cause, Diagnosis

WRITTEN = Written((".json",), re.compile(r"\A\s*\{"))

VERSION = 1


class Result(Protocol):
    """The protocol of a command's result, such as a run or a sweep."""

    @property
    def exit_code(self) -> ExitCode: ...


def render(run: Run, view: View) -> str:
    """Return the run as a JSON object."""
    return document(run, specs=[_outcome(outcome, view) for outcome in run.outcomes])


def document(result: Result, **rest: Any) -> str:
    """Return the text of a JSON object with the format's version, the exit code, and the items of `rest`."""
    found = {"version": VERSION, "exit_code": int(result.exit_code), **rest}
    return json.dumps(_strict(found), indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def _outcome(outcome: Outcome, view: View) -> dict[str, Any]:
    """Return the object for one spec.

    If the spec could not be checked, its verdict is null and it has no tensors.
    """
    report = outcome.report
    return {
        "spec": outcome.spec,
        "exit_code": int(outcome.exit_code),
        "seconds": outcome.seconds,
        "errors": [_complaint(complaint) for complaint in outcome.complaints],
        **(_report(report, view) if report else {"verdict": None, "entries": 0, "tensors": []}),
    }


def _complaint(complaint: Complaint) -> dict[str, Any]:
    position = complaint.position
    return {
        "message": complaint.message,
        "line": position.line if position else None,
        "column": position.column if position else None,
        "help": complaint.help,
    }


def _report(report: Report, view: View) -> dict[str, Any]:
    return {
        "verdict": report.verdict,
        "entries": report.entries,
        "agree": report.agree,
        "projected": report.projected,
        "by_atol": report.by_atol,
        "wrong": report.wrong,
        "unresolved": report.unresolved,
        "suspect": report.suspect,
        "zero": report.zero,
        "network": report.network,
        "loss_name": report.loss_name,
        "loss": report.loss,
        "gradients": report.source,
        "scheme": report.scheme,
        "differences": report.differences,
        "against": report.against,
        "way": report.way,
        "not_estimated": report.not_estimated if any(map(has_no_estimate, report.comparisons)) else "",
        "strict": report.strict,
        "ratio": report.ratio,
        "resolution": _resolution(report.resolution),
        "witness": report.witness and asdict(report.witness),
        "unexercised": report.unexercised,
        "unusual": report.unusual,
        "kinks": report.kinks,
        "diagnosis": report.diagnosis and _diagnosis(report.diagnosis),
        "tensors": [tensor_object(comparison) for comparison in report.comparisons],
        "worst": [{"tensor": name, **_entry(entry)} for name, entry in report.worst(view.show)],
    }


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    answers = [
        {**asdict(answer), "causes": [_cause(cause) for cause in answer.causes]}
        for answer in diagnosis.answers
    ]
    return {**asdict(diagnosis), "answers": answers}


def _cause(cause: Cause) -> dict[str, Any]:
    """Return the object for a diagnosed cause, with the address of the documentation page if there is one."""
    page = page_of(cause.kind)
    return {**asdict(cause), **({"page": page} if page else {})}


def _resolution(resolution: Resolution | None) -> dict[str, float] | None:
    if resolution is None:
        return None
    return asdict(resolution)


def tensor_object(comparison: Comparison) -> dict[str, Any]:
    """Return the object for a tensor: the number of entries by verdict, the errors and the worst entry."""
    return {
        "name": comparison.name,
        "shape": comparison.shape,
        "entries": comparison.entries,
        "agree": int(comparison.agrees.sum()),
        "projected": int((comparison.covered & comparison.agrees).sum()),
        "by_atol": int(comparison.by_atol.sum()),
        "wrong": int(comparison.wrong.sum()),
        "unresolved": int(comparison.unresolved.sum()),
        "suspect": int(comparison.suspect.sum()),
        "zero": int(comparison.zero.sum()),
        "max_relative_error": comparison.max_relative_error,
        "median_relative_error": comparison.median_relative_error,
        "rtol": comparison.rtol,
        "atol": comparison.atol,
        "ratio": comparison.ratio,
        "resolution": _resolution(resolution_of([comparison])),
        "verdict": comparison.verdict,
        "place": comparison.place,
        "directions": [asdict(of) for of in comparison.projected.directions] if comparison.projected else [],
        "worst": next((_entry(entry) for entry in comparison.worst()), None),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "analytic": entry.analytic,
        "numerical": entry.numerical,
        "error": entry.error,
        "relative_error": entry.relative_error,
        "verdict": entry.verdict,
    }
