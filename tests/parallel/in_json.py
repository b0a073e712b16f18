"""What the command prints about one spec in JSON, without the time that the check took."""

from __future__ import annotations

import json
from typing import Any

from gradcheck_cli.formats import render
from gradcheck_cli.formats.view import View
from gradcheck_cli.report import Outcome, Report, Run


def json_of(report: Report, spec: str = "net.yaml") -> dict[str, Any]:
    """Return what the command prints for a report."""
    return without_seconds(render("json", Run((Outcome(spec, report),)), View()))


def without_seconds(text: str) -> dict[str, Any]:
    document = json.loads(text)
    for spec in document["specs"]:
        del spec["seconds"]
    return document
