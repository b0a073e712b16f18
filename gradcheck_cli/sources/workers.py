"""Processes that evaluate the user's code at many points at once.

Each loads the code itself. The points go out in parts that depend on nothing but the function, and what a
part evaluates to depends on nothing but the part: so the result is the same,
bit for bit, however many there are.
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

from gradcheck_cli.errors import bad_input
from gradcheck_cli.sources import read_code
from gradcheck_cli.sources.foreign import STACK, Change, Function, Inputs, evaluate, stacks
from gradcheck_cli.sources.own_process import end_with_parent
from gradcheck_cli.spec import Gradients
from gradcheck_cli.types import Array

_WHERE = ("gradients",)


@dataclass(frozen=True)
class Case:
    """What a process needs to evaluate the function by itself.

    parameters: the point that all others are near.  losses, noise: what the function says there, (S,), and
    how exactly, for each parameter: every process must say the same.
    """

    source: Gradients
    inputs: Inputs
    parameters: Mapping[str, Array]
    losses: Array
    noise: Mapping[str, Array]


class Workers:
    """An evaluator with `jobs` processes, which end with the context."""

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
        """Let them end by themselves; when interrupted, or after a failure, at once."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()

    @property
    def batch(self) -> int:
        """Some for each, in whole stacks."""
        return 4 * STACK * self.jobs

    def losses_at(self, changes: Sequence[Change]) -> Array:
        parts = list(stacks(self.function, changes)) if self.function.vectorized else self._shares(changes)
        try:
            return np.concatenate(list(self._pool.map(_evaluate, parts)))
        except BrokenProcessPool:
            message = "a process that ran the code has died"
            raise bad_input(message, *_WHERE, help="--jobs 1 keeps it in this one") from None

    def _shares(self, changes: Sequence[Change]) -> list[Sequence[Change]]:
        """Of a function of one point any parts will do."""
        size = max(1, min(STACK, -(-len(changes) // self.jobs)))
        return [changes[start : start + size] for start in range(0, len(changes), size)]


# --- in the process ----------------------------------------------------------------------------------------

_CASES: list[Case] = []


def _begin(case: Case) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    end_with_parent()
    _CASES.append(case)


@lru_cache(maxsize=1)
def _function() -> Function:
    """The code, loaded when it is first needed: what it does wrong is then told by the evaluation."""
    (case,) = _CASES
    function = read_code(case.source, case.inputs)
    if not (
        np.abs(function.losses(case.parameters) - case.losses)
        <= 2.0 * np.maximum.reduce(list(case.noise.values()))
    ).all():
        message = f"{function.origin} computes another loss in a process of its own"
        raise bad_input(message, *_WHERE, help="seed its random numbers, or use --jobs 1")
    return function


@np.errstate(all="ignore")
def _evaluate(changes: Sequence[Change]) -> Array:
    return evaluate(_function(), _CASES[0].parameters, changes)
