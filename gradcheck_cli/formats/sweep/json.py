"""A sweep as a JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gradcheck_cli.formats.json import document
from gradcheck_cli.formats.view import View
from gradcheck_cli.sweep.curve import Curve
from gradcheck_cli.sweep.sweep import Sweep


def render(sweep: Sweep, view: View, spec: str) -> str:
    """Return the sweep as a JSON object."""
    report = sweep.report
    return document(
        sweep,
        spec=spec,
        verdict=sweep.verdict,
        network=report.network,
        loss_name=report.loss_name,
        loss=report.loss,
        gradients=report.source,
        entries=report.entries,
        swept=sweep.swept,
        check={"verdict": report.verdict, "wrong": report.wrong, "unresolved": report.unresolved},
        schemes=[_curve(curve) for curve in sweep.curves],
        adaptive=asdict(sweep.adaptive),
    )


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "scheme": curve.scheme,
        "verdict": curve.verdict,
        "order": curve.order,
        "expected_order": curve.expected,
        "flat": curve.flat,
        "allowed": curve.allowed,
        "best": curve.best and {"step": curve.best.step, "error": curve.best.error},
        "points": [asdict(point) for point in curve.points],
    }
