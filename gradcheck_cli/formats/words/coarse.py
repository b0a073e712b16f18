"""Say how coarse a passing check was, so that readers do not overestimate what the check shows."""

from __future__ import annotations

from gradcheck_cli.report import Report

COARSE = 0.01
"""A check counts as coarse if it cannot detect a relative error of this size in a typical entry."""

_NARROW = {
    2.0**-10: "float16",
    2.0**-7: "bfloat16",
    2.0**-4: "float8 (e3m4)",
    2.0**-3: "float8 (e4m3)",
    2.0**-2: "float8 (e5m2)",
}
"""Maps the machine epsilon of each narrow type to the type's name."""


def coarsely(report: Report) -> str:
    """Return the words that a coarse check adds to its verdict; empty if the check is not coarse.

    For example: ``, but coarsely: in float16 a typical entry could be 32 % off and still agree``.
    """
    resolution = report.resolution
    if resolution is None or not resolution.median > COARSE:
        return ""
    off = f"{100 * resolution.median:.0f} % off" if resolution.median < 1 else "off by any amount"
    return f", but coarsely: {_reason(report)}a typical entry could be {off} and still agree"


def too_narrow(report: Report) -> bool:
    """Return whether the check was coarse because the gradients are in a narrow type."""
    return bool(coarsely(report)) and _coarsest(report) in _NARROW


def _reason(report: Report) -> str:
    """Return the reason why the check is coarse: the type of the gradients, or the spec's tolerance."""
    if _coarsest(report) in _NARROW:
        return f"in {_NARROW[_coarsest(report)]} "
    rtol = max(report.rtol.values())
    return f"with rtol {rtol:g} " if rtol >= COARSE else ""


def _coarsest(report: Report) -> float:
    return max(c.eps for c in report.comparisons)
