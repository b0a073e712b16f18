"""The sources of a network's gradients. A new source needs a module with a `read` and a line in `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradcheck_cli.gradients import backprop
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.spec.gradients import Backprop, GradientFile, Gradients


def _from_file(source: GradientFile, problem: Problem) -> Analytic:
    from gradcheck_cli.gradients import array_file  # only a spec that names a file needs it

    return array_file.read(source, problem)


SOURCES: Mapping[type, Callable[[Any, Problem], Analytic]] = {
    Backprop: backprop.read,
    GradientFile: _from_file,
}


def read_gradients(source: Gradients, problem: Problem) -> Analytic:
    """Return a network's gradients from the source that its spec names.

    Raises `InputError` if the gradients cannot be read or computed.
    """
    return SOURCES[type(source)](source, problem)
