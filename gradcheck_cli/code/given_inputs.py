"""Read the arguments for the user's code that a spec provides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.arrays.named_arrays import OwnParameters, read_named
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.errors import bad_input
from gradcheck_cli.problem.data import read_arrays
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.parameters import ParameterFile
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array


def read_inputs(spec: Spec, own: OwnParameters | None = None) -> Inputs:
    """Return the parameters and the data to pass to the user's code.

    If the spec has a network section, parameters and data come from the network; otherwise, they are the
    arrays in the files that the spec names.

    own: the parameters that the code defines, which replace the network's parameters.
    """
    if spec.network is not None:
        problem = build_problem(spec, own)
        return _asked(Inputs(problem.parameters, problem.x, _labels_whole(problem), problem), spec.check)
    parameters = None
    if isinstance(spec.parameters, ParameterFile):
        parameters = read_named(spec.parameters, "parameters")
    elif spec.parameters is not None:
        raise bad_input(
            "without a network section, parameters must come from a file or from your code", "parameters"
        )
    x, y = read_arrays(spec.data) if spec.data else (None, None)
    return _asked(Inputs(parameters, x, y), spec.check)


def _asked(inputs: Inputs, how: CheckSpec) -> Inputs:
    return replace(
        inputs,
        checks_inputs=how.inputs,
        order=how.order,
        forward_mode=how.forward_mode,
        batched=how.batched,
    )


def _labels_whole(problem: Problem) -> Array:
    """Return y, with class labels converted from floats to integers."""
    loss = problem.network.loss
    values = not loss.takes_labels and (problem.network.outputs == (1,) or loss.target == "nothing")
    return problem.y if values or problem.y.ndim > 1 else problem.y.astype(np.int64)
