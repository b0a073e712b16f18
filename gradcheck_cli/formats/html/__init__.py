"""Render a run as one HTML page that works offline: verdicts, causes, sortable tables and maps."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.formats.files import Written
from gradcheck_cli.formats.glyphs import escaped, reference, without_commands
from gradcheck_cli.formats.html.cells import STATES, cells_of, most_cells
from gradcheck_cli.formats.pages import page_of
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words import numbers, remarks, tensors, verdicts, why
from gradcheck_cli.report import Outcome, Report, Run, resolution_of
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

WRITTEN = Written((".html", ".htm"), re.compile(r"\A\s*<!doctype html", re.IGNORECASE))

WORST = 10
"""The number of entries to list for a tensor, unless --show asks for more."""

UNCHECKED = "not checked"
"""The text to show in place of a verdict if there is no verdict."""


def render(run: Run, view: View) -> str:
    """Return the page in ASCII.

    In another encoding, the script would not match its hash, which is part of the page.
    """
    page = _environment().get_template("report.html.jinja").render(_context(run, view))
    return without_commands(page.encode("ascii", "xmlcharrefreplace").decode("ascii"), reference) + "\n"


def _context(run: Run, view: View) -> dict[str, Any]:
    style, script = _part("report.css"), _part("report.js")
    shown = {_tone(outcome) for outcome in run.outcomes}
    shown |= {c.verdict for outcome in run.outcomes if outcome.report for c in outcome.report.comparisons}
    return {
        "run": run,
        "tone": _tone_of_run(run),
        "maps": _maps(run),
        "states": STATES,
        "verdicts": [verdict for verdict in (*Verdict, UNCHECKED) if verdict in shown],
        "most": max(WORST, view.show),
        "reproduced": why.REPRODUCED,
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: escaped(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _maps(run: Run) -> list[list[dict[str, Any] | None]]:
    """Return the map of each tensor of each spec; None for a tensor without individually checked entries."""
    specs = [outcome.report.comparisons if outcome.report else () for outcome in run.outcomes]
    most = most_cells([c.entries for comparisons in specs for c in comparisons])
    return [[_map(c, most) for c in comparisons] for comparisons in specs]


def _map(comparison: Comparison, most: int) -> dict[str, Any] | None:
    nothing = comparison.directions or not comparison.entries
    return None if nothing else asdict(cells_of(comparison, most))


def _tone(of: Outcome | Comparison) -> str:
    """Return the verdict whose colour to use. A tensor of zeros looks unresolved: nothing was tested."""
    if isinstance(of, Outcome):
        return of.report.verdict if of.report else UNCHECKED
    return Verdict.UNRESOLVED if of.untested else of.verdict


def _tone_of_run(run: Run) -> str:
    return next(_tone(outcome) for outcome in run.outcomes if outcome.exit_code is run.exit_code)


def _mark(tone: str) -> str:
    return verdicts.MARKS[Verdict.WRONG if tone == UNCHECKED else Verdict(tone)]


def _largest(report: Report) -> float:
    """Return the largest relative error of all tensors."""
    return float(np.fmax.reduce([c.max_relative_error for c in report.comparisons], initial=np.nan))


def _flat(comparison: Comparison, index: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(index, comparison.shape)) if index else 0


def _median(comparison: Comparison) -> float:
    """Return the sort key of the column *detectable*."""
    resolution = resolution_of([comparison])
    return resolution.median if resolution else np.nan


_FILTERS = {
    "asides": remarks.asides,
    "detectable": tensors.detectable,
    "count": numbers.count,
    "details": remarks.details,
    "besides": why.besides,
    "failed": verdicts.failed,
    "flat": _flat,
    "index": numbers.index,
    "key": lambda value: json.dumps(float(value)),  # the script also reads NaN and Infinity
    "largest": _largest,
    "listed": numbers.listed,
    "mark": _mark,
    "measured": numbers.measured,
    "median": _median,
    "number": numbers.number,
    "page": page_of,
    "relative": numbers.relative,
    "remarks": remarks.remarks,
    "sentence": verdicts.sentence,
    "shape": numbers.shape,
    "summary": verdicts.summary,
    "tensor_verdict": tensors.tensor_verdict,
    "tone": _tone,
}


def _part(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
