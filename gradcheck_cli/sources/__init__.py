"""Where the analytic gradients come from. To add a source: one file with `read`, and a line in `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_cli.errors import bad_input
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.sources import array_file, backprop
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import Backprop, GradientFile, Gradients, PythonFunction, TorchModule

if TYPE_CHECKING:
    from gradcheck_cli.sources.foreign import Function, Inputs

CODE_SOURCES: Mapping[type, str] = {
    PythonFunction: "gradcheck_cli.sources.python_function",
    TorchModule: "gradcheck_cli.sources.torch_module",
}
"""Code of the user's that has a loss of its own: not only gradients, but what to difference as well.

Each has a module with `read(source, inputs)`, loaded when it is asked for.
"""

SOURCES: Mapping[type, Callable[[Any, Problem], Analytic]] = {
    Backprop: backprop.read,
    GradientFile: array_file.read,
}


def read_gradients(source: Gradients, problem: Problem) -> Analytic:
    """The gradients the spec names, for a loss of ours. Raises `InputError` at the place in the spec."""
    if type(source) not in SOURCES:
        help = "save the gradients to a file and say gradients: {file: FILE.npz}, or leave the key out"
        raise bad_input(
            "gradients from code have a loss of their own; only `check` can judge them",
            "gradients",
            help=help,
        )
    return SOURCES[type(source)](source, problem)


def read_code(source: Gradients, inputs: Inputs) -> Function:
    """The code the spec names, loaded and called once. Raises `InputError` at the place in the spec."""
    function: Function = import_module(CODE_SOURCES[type(source)]).read(source, inputs)
    return function
