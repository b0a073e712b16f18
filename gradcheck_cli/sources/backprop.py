"""Our own backprop, in the arithmetic the spec asks for."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.model.network import gradients
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import Backprop


def read(source: Backprop, problem: Problem) -> Analytic:
    """The gradients of `model.network.gradients` at the problem's parameters and data."""
    dtype = problem.dtype
    parameters = {name: value.astype(dtype) for name, value in problem.parameters.items()}
    with np.errstate(all="ignore"):  # an overflow shows as inf or NaN, and those are judged
        values = gradients(problem.network, parameters, problem.x.astype(dtype), problem.target.astype(dtype))
    origin = "backprop" if dtype == np.float64 else f"backprop in {dtype.name}"
    return Analytic(
        {name: values[name] for name in problem.checked}, dict.fromkeys(problem.checked, dtype), origin
    )
