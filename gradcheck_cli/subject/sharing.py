"""Evaluate the user's code in other processes, if a check has enough work for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.directions.plan import Plan
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.parallel.executors import Engine

if TYPE_CHECKING:
    from gradcheck_cli.code.pool import Source

Sharing = Callable[[ForeignObjective, Plan, Progress | None], AbstractContextManager[ForeignObjective]]
"""A function that takes an objective, a plan and a progress display, and returns a context.

The context yields an objective that several processes evaluate, if the plan has enough work for them.
"""


def alone(
    objective: ForeignObjective, way: Plan, progress: Progress | None
) -> AbstractContextManager[ForeignObjective]:
    """Return a context in which this process evaluates everything."""
    return nullcontext(objective)


@contextmanager
def by_workers(
    source: Source, engine: Engine, objective: ForeignObjective, way: Plan, progress: Progress | None
) -> Iterator[ForeignObjective]:
    """Yield an objective that the engine's workers evaluate, or the given one if the plan is small.

    source: the code, in a form that workers can load.
    """
    if way.is_small:
        yield objective
        return
    from gradcheck_cli.code.pool import Case, Workers

    function = objective.function
    case = Case(source, function.parameters, objective.losses, objective.noise)
    with engine.opened() as opened:
        yield replace(objective, evaluator=Workers(case, function, opened, way.each, progress))
