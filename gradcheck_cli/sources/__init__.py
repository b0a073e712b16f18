"""The sources of analytic gradients. A new source is one file with `read`, and a line in `SOURCES`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_cli.model.named_arrays import OwnParameters
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.sources import array_file, backprop
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import Backprop, GradientFile, Gradients, PythonFunction, Spec, TorchModule

if TYPE_CHECKING:
    from gradcheck_cli.sources.foreign import Function, Inputs
    from gradcheck_cli.sources.user_code import Load

CODE_SOURCES: Mapping[type, str] = {
    PythonFunction: "gradcheck_cli.sources.python_function",
    TorchModule: "gradcheck_cli.sources.torch_module",
}
"""Sources that run the user's code, which computes a loss as well as gradients.

Each source has a module with a function `read(source, inputs, load)`, which is imported on demand.
"""

SOURCES: Mapping[type, Callable[[Any, Problem], Analytic]] = {
    Backprop: backprop.read,
    GradientFile: array_file.read,
}


def read_gradients(source: Gradients, problem: Problem) -> Analytic:
    """Return the gradients that the spec names for a network. Raises `InputError` if they cannot be read."""
    return SOURCES[type(source)](source, problem)


def with_own_inputs(spec: Spec) -> tuple[Spec, OwnParameters | None]:
    """Return the spec with its data filled in and, if it names no parameters, those that its code defines.

    Data and parameters that the spec names itself are kept. No gradients are computed. Raises `InputError`
    if the code fails, or if the data are defined nowhere.
    """
    code = spec.names_code
    if code is None or not spec.asks_code or not (spec.data is None or os.path.exists(code.file)):
        return spec, None
    from gradcheck_cli.sources.own_inputs import completed
    from gradcheck_cli.sources.user_code import load

    return completed(spec, load)


def read_code(source: Gradients, inputs: Inputs, load: Load | None = None) -> Function:
    """Load the code that the spec names and call it.

    Raises an `InputError` that points at the offending place in the spec.

    load: the function that loads the code; `user_code.load` by default.
    """
    loaded_by = () if load is None else (load,)
    function: Function = import_module(CODE_SOURCES[type(source)]).read(source, inputs, *loaded_by)
    return function
