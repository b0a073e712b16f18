"""Workers that evaluate the user's code at many points at once, on this machine or on others.

Each worker loads the code. A vectorized function gets stacks of points, whose size depends only on the
function; any other function gets one point at a time. So the results are bit-for-bit the same with any number
of workers, if the machines compute alike. A worker that computes other losses is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Protocol

import numpy as np

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.points import STACK, Change, evaluate_stacks, no_change, stack_of
from gradcheck_cli.code.sources import read_code
from gradcheck_cli.errors import bad_input
from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.parallel.executors import Opened
from gradcheck_cli.parallel.parts import Shared, at_once, cuts
from gradcheck_cli.parallel.same_files import hashes_of, refuse_other_files
from gradcheck_cli.spec.gradients import Code, FromCode
from gradcheck_cli.types import Array

_WHERE = ("gradients",)

_HELP = "seed the random numbers in the code, install the same libraries everywhere, or use --jobs 1"

_MOST_NUMBERS = 2**20
"""The most loss terms of the variables that are evaluated together: 8 MiB for each of their points."""


class Source(Protocol):
    """Code that a worker can load."""

    def function(self) -> Function:
        """Load the code and return its function. Raises `InputError` if this worker cannot load it."""


@dataclass(frozen=True)
class InFile:
    """Code that a spec names in a file, which every worker must have under the same path.

    source: the code.
    inputs: the arguments of that code.
    hashes: the SHA-256 of each file that the spec names.
    """

    source: FromCode
    inputs: Inputs
    hashes: Mapping[Path, str]

    @staticmethod
    def of(source: FromCode, inputs: Inputs) -> InFile:
        """Return the code with absolute paths, and with the hashes of its files."""
        named = {key: value for key, value in source if isinstance(value, Code)}
        absolute = {key: Code(code.file.absolute(), code.name) for key, code in named.items()}
        hashes = hashes_of(code.file for code in absolute.values())
        return InFile(source.model_copy(update=absolute), inputs, hashes)

    def function(self) -> Function:
        refuse_other_files(self.hashes, _WHERE)
        return read_code(self.source, self.inputs)


@dataclass(frozen=True)
class Case:
    """Everything that a worker process needs in order to evaluate the function.

    source: the code.
    parameters: the point near which the function is evaluated.
    losses: the function's S loss terms at `parameters`, which every worker must reproduce.
    noise: for each parameter, the noise in the losses, (S,). A worker's losses may deviate by about as much.
    """

    source: Source
    parameters: Mapping[str, Array]
    losses: Array
    noise: Mapping[str, Array]

    @property
    def tolerated(self) -> Array:
        """The difference that each of the S loss terms may have in a worker, (S,)."""
        return 2.0 * np.maximum.reduce(list(self.noise.values()))

    @np.errstate(all="ignore")
    def begin(self) -> Callable[[Sequence[Change]], Array]:
        """Load the code in this worker, and return the function that evaluates it at points, (K, S).

        Raises `InputError` if the losses differ from those in the process that sent the case.
        """
        function = self.source.function()
        losses = function.losses(self.parameters)
        if losses.shape != self.losses.shape or not (np.abs(losses - self.losses) <= self.tolerated).all():
            found = f"{losses.sum():.9g} instead of {self.losses.sum():.9g}"
            message = f"{function.origin} computes a different loss in a worker process ({found})"
            raise bad_input(message, *_WHERE, help=_HELP)

        @np.errstate(all="ignore")
        def losses_at(changes: Sequence[Change]) -> Array:
            return evaluate_stacks(function, self.parameters, changes)

        return losses_at


class Workers:
    """An evaluator whose points are evaluated by the workers of an executor.

    seconds: the time of one evaluation. It only decides how to cut the points into parts.
    progress: receives the number of workers.
    """

    def __init__(
        self, case: Case, function: Function, opened: Opened, seconds: float, progress: Progress | None = None
    ) -> None:
        self.function = function
        self.opened = opened
        self.seconds = seconds
        self.progress = progress
        self.tolerated = float(case.tolerated.sum())
        self.shared = Shared(opened, case)

    @property
    def batch(self) -> int:
        """The number of variables to evaluate together: full stacks for all workers that there are now."""
        most = min(at_once(self.seconds, self.opened), _MOST_NUMBERS // max(1, self.function.terms))
        stack = stack_of(self.function)
        return max(1, most // stack) * stack

    def losses_at(self, changes: Sequence[Change]) -> Array:
        whole = stack_of(self.function) if self.function.vectorized else 1
        stacks, width = -(-len(changes) // whole), max(1, self.opened.width())
        cut = cuts(stacks, self.seconds * whole, width, self.opened.shortest)
        parts = [changes[each.start * whole : each.stop * whole] for each in cut]
        done = dict(self.shared.each(parts))
        if self.progress:
            self.progress.spread_over(len(self.shared.nodes))
        self.seconds = sum(part.seconds for part in done.values()) / len(changes)
        return np.concatenate([done[number].value for number in range(len(parts))])

    def losses_at_rest(self) -> Iterable[tuple[str, Array]]:
        """Yield the losses at the unperturbed parameters, (S,), from every worker that has taken part.

        The engine chooses the worker for each part. So parts are sent until all workers have answered, but
        not for ever, since some may have ended.
        """
        missing = set(self.shared.nodes)
        part = [no_change(self.function)] * ceil(_ASKING / max(self.seconds, _ASKING / STACK))
        for _ in range(_ROUNDS):
            for _, done in self.shared.each([part] * max(1, self.opened.width())):
                yield self.shared.on(done.node), done.value[-1]
                missing.discard(done.node)
            if not missing:
                break


_ASKING = 0.05
"""The seconds that a worker is kept busy by a question, so that the next question goes to another worker."""

_ROUNDS = 4
"""How often every worker is asked, if some of them do not answer."""
