"""Compute gradients with gradcheck's own backprop, in the floating-point type that the spec names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.errors import bad_input
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem, refuse_overflow
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.types import Array


def read(source: Backprop, problem: Problem) -> Analytic:
    """Return the gradients that gradcheck's own backprop computes at the problem's parameters and data.

    Raises `InputError` if the gradients or the forward pass overflow, because then the arithmetic is at
    fault, not a gradient.
    """
    dtype, whole = problem.dtype, problem.with_shifts(problem.checked_values)
    with np.errstate(all="ignore"):  # numbers that are not finite are refused
        at = whole.objective if dtype == np.float64 else _narrow(whole, dtype)
        refuse_overflow(at)
        values = gradients(at.network, at.parameters, at.x, at.target, at.values)
    checked = {name: values[name] for name in (*problem.checked, *problem.checked_values)}
    _refuse_infinite(checked, dtype)
    origin = "backprop" if dtype == np.float64 else f"backprop in {dtype.name}"
    return Analytic(checked, dict.fromkeys(checked, dtype), origin)


def _narrow(problem: Problem, dtype: np.dtype[np.floating]) -> NetworkObjective:
    """Return the network with its forward pass in another floating-point type."""
    parameters = {name: value.astype(dtype) for name, value in problem.parameters.items()}
    return NetworkObjective(
        problem.network, parameters, problem.x.astype(dtype), problem.target.astype(dtype)
    )


def _refuse_infinite(values: Mapping[str, Array], dtype: np.dtype[np.floating]) -> None:
    infinite = [name for name, value in values.items() if not np.isfinite(value).all()]
    if infinite:
        smaller = "scale down the loss, the parameters or the inputs"
        help = smaller if dtype == np.float64 else f"{smaller}, or try float64"
        message = (
            f"gradcheck's own backprop overflows in {dtype}: the gradient of {listed(infinite)} is not finite"
        )
        raise bad_input(message, "network", help=help)
