"""Where the analytic gradients come from. To add a source: one file with `read`, and a line in `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradcheck_cli.errors import bad_input
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.sources import array_file, backprop, python_function, torch_module
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.sources.foreign import Function, Inputs
from gradcheck_cli.spec import Backprop, GradientFile, Gradients, PythonFunction, TorchModule

CODE_SOURCES: Mapping[type, Callable[[Any, Inputs], Function]] = {
    PythonFunction: python_function.read,
    TorchModule: torch_module.read,
}
"""Code of the user's that has a loss of its own: not only gradients, but what to difference as well."""

SOURCES: Mapping[type, Callable[[Any, Problem], Analytic]] = {
    Backprop: backprop.read,
    GradientFile: array_file.read,
}


def read_gradients(source: Gradients, problem: Problem) -> Analytic:
    """The gradients the spec names, for a loss of ours. Raises `InputError` at the place in the spec."""
    if type(source) not in SOURCES:
        raise bad_input(
            "gradients from code have a loss of their own; only `check` can judge them", "gradients"
        )
    return SOURCES[type(source)](source, problem)
