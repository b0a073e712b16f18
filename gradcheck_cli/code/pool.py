"""Worker processes that evaluate the user's code at many points at once.

Each worker loads the code. A vectorized function gets stacks of points, whose size depends only on the
function; any other function gets one point at a time. So the results are bit-for-bit the same with any number
of workers.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType

import numpy as np

from gradcheck_cli.code.objective import STACK, Change, Function, Inputs, evaluate, stacks
from gradcheck_cli.code.own_process import end_with_parent
from gradcheck_cli.code.sources import read_code
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.gradients import FromCode
from gradcheck_cli.types import Array

_WHERE = ("gradients",)


@dataclass(frozen=True)
class Case:
    """Everything that a worker process needs in order to evaluate the function.

    source: the code that the spec names.
    inputs: the arguments of that code.
    parameters: the point near which the function is evaluated.
    losses: the function's S loss terms at `parameters`, which every worker must reproduce.
    noise: for each parameter, the noise in the losses, (S,). A worker's losses may deviate by about as much.
    """

    source: FromCode
    inputs: Inputs
    parameters: Mapping[str, Array]
    losses: Array
    noise: Mapping[str, Array]


class Workers:
    """An evaluator with `jobs` worker processes. It is a context manager that ends them on exit."""

    def __init__(self, case: Case, function: Function, jobs: int) -> None:
        self.case = case
        self.function = function
        self.jobs = jobs

    def __enter__(self) -> Workers:
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(
            self.jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self.case,)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the worker processes finish, or terminate them at once after an interruption or a failure."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()

    @property
    def batch(self) -> int:
        """The number of points to pass to one call of `losses_at`: several full stacks for every worker."""
        return 4 * STACK * self.jobs

    def losses_at(self, changes: Sequence[Change]) -> Array:
        parts = list(stacks(self.function, changes)) if self.function.vectorized else self._shares(changes)
        try:
            return np.concatenate(list(self._pool.map(_evaluate, parts)))
        except BrokenProcessPool:
            message = "a worker process died while it ran the code"
            raise bad_input(
                message, *_WHERE, help="--jobs 1 runs the code without worker processes"
            ) from None

    def _shares(self, changes: Sequence[Change]) -> list[Sequence[Change]]:
        """Split the points evenly among the workers, one share for each.

        The split does not affect rounding, since the function takes only one point at a time.
        """
        size = max(1, min(STACK, -(-len(changes) // self.jobs)))
        return [changes[start : start + size] for start in range(0, len(changes), size)]


# --- in the process ----------------------------------------------------------------------------------------

_CASES: list[Case] = []


def _begin(case: Case) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    end_with_parent()
    _CASES.append(case)


@lru_cache(maxsize=1)
def _function() -> Function:
    """Load the code in this worker and return its function. Later calls return the same function.

    The code is loaded on first use, so that an evaluation reports its errors. Raises `InputError` if the
    losses differ from those in the parent process.
    """
    (case,) = _CASES
    function = read_code(case.source, case.inputs)
    if not (
        np.abs(function.losses(case.parameters) - case.losses)
        <= 2.0 * np.maximum.reduce(list(case.noise.values()))
    ).all():
        message = f"{function.origin} computes a different loss in a worker process"
        raise bad_input(message, *_WHERE, help="seed the random numbers in the code, or use --jobs 1")
    return function


@np.errstate(all="ignore")
def _evaluate(changes: Sequence[Change]) -> Array:
    return evaluate(_function(), _CASES[0].parameters, changes)
