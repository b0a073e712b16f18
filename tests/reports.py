"""Reports built by hand, for tests of the formats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.report import Report


def one(
    analytic: float, numerical: float, error: float = 0.0, rounding: float = 0.0, rtol: float = 1e-6
) -> Comparison:
    """Return the comparison of a tensor with one entry."""
    return Comparison(
        "w", np.array([analytic]), np.array([numerical]), np.array([error]), np.array([rounding]), rtol
    )


def comparison(name: str, analytic: Any, numerical: Any, error: Any = 1e-12) -> Comparison:
    analytic, numerical = np.array(analytic, dtype=float), np.array(numerical, dtype=float)
    error = np.broadcast_to(np.array(error, dtype=float), analytic.shape)
    return Comparison(name, analytic, numerical, error, np.zeros(analytic.shape), 1e-6)


def report(*comparisons: Comparison, **fields: Any) -> Report:
    rtol = {c.name: c.rtol for c in comparisons}
    return Report(
        comparisons,
        "4-3-2, tanh, 5 samples",
        "mse (batchmean)",
        0.5,
        "g.npz",
        "adaptive",
        "units",
        **{"rtol": rtol, **fields},
    )


def diagnosis() -> Diagnosis:
    """Return a diagnosis with one answer and one cause."""
    cause = Cause(
        "missing_activation_derivative",
        "activation",
        ("output",),
        "the activation's derivative is missing from δ of layer output.",
        "δ = ∂L/∂a",
        "δ = ∂L/∂a · a (1 − a)",
        "∂a/∂z",
    )
    return Diagnosis((Answer((cause,), 1e-15),), 100, (), ("output",), "network")


RIGHT = comparison("output.weight", [[1.0, -0.25, 3e-9]], [[1.0, -0.25, 3e-9]])
WRONG = comparison("output.bias", [1.0, -2.0, 3e-7], [1.0, -2.5, 6e-7])
UNKNOWN = comparison("hidden1.bias", [1.0, 0.5], [math.nan, math.nan], math.inf)
ZERO = comparison("hidden1.weight", [[0.0, 0.0]], [[0.0, 0.0]], 0.0)
HALF_KNOWN = comparison("hidden1.bias", [1.0, 2e-6, 3.0], [1.0, 2.1e-6, 3.0], [1e-9, 1e-7, 1e-9])
NOT_FINITE = comparison("output.bias", [math.nan, -math.inf, 1.0], [1.0, 1.0, 1.0])
EVERY_KIND = (RIGHT, WRONG, UNKNOWN, ZERO, HALF_KNOWN, NOT_FINITE)
