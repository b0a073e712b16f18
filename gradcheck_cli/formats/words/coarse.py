"""Say how coarse a passing check was, so that readers do not overestimate what the check shows."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.report import Report

COARSE = 0.01
"""A check counts as coarse if it cannot detect a relative error of this size in a typical entry."""

_EPS = float(np.finfo(np.float16).eps)


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
    return bool(coarsely(report)) and _has_float16(report)


def _reason(report: Report) -> str:
    """Return the reason why the check is coarse: the type of the gradients, or the spec's tolerance."""
    if _has_float16(report):
        return "in float16 "
    rtol = max(report.rtol.values())
    return f"with rtol {rtol:g} " if rtol >= COARSE else ""


def _has_float16(report: Report) -> bool:
    return max(c.eps for c in report.comparisons) >= _EPS
