"""How coarse a check was that agrees: what a reader should not take for more than it is."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.report import Report

COARSE = 0.01
"""A check that cannot see an error of this share in a typical entry says so in its verdict."""

_EPS = float(np.finfo(np.float16).eps)


def coarsely(report: Report) -> str:
    """``, but coarsely: in float16 a typical entry could be 32 % off and still agree``, or nothing."""
    resolution = report.resolution
    if resolution is None or not resolution.median > COARSE:
        return ""
    off = f"{100 * resolution.median:.0f} % off" if resolution.median < 1 else "off by any amount"
    return f", but coarsely: {_reason(report)}a typical entry could be {off} and still agree"


def too_narrow(report: Report) -> bool:
    """Whether the check was coarse because of the type of the gradients."""
    return bool(coarsely(report)) and _has_float16(report)


def _reason(report: Report) -> str:
    """What makes a check coarse: the type of the gradients, or the tolerance that was asked for."""
    if _has_float16(report):
        return "in float16 "
    rtol = max(report.rtol.values())
    return f"with rtol {rtol:g} " if rtol >= COARSE else ""


def _has_float16(report: Report) -> bool:
    return max(c.eps for c in report.comparisons) >= _EPS
