"""Check further modes in which torch computes gradients: forward mode, and backward for several upstreams."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.call import Call
from gradcheck_cli.code.drawn import drawn
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.function import BATCHED, FORWARD, Inputs
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.reruns import apart_by_more_than_rounding
from gradcheck_cli.code.returned import hinted
from gradcheck_cli.code.torch_forward import forward_gradients
from gradcheck_cli.code.torch_function import TorchFunction
from gradcheck_cli.code.torch_graph import Batch
from gradcheck_cli.code.torch_leaf import Tensor
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.types import Array

_ROWS = 3
"""The number of upstreams in a batch."""


def other_modes(function: TorchFunction, inputs: Inputs) -> dict[str, TorchFunction]:
    """Return, by name of the mode, the module with gradients from each further mode to check."""
    modes: dict[str, TorchFunction] = {}
    if inputs.forward_mode:
        modes[FORWARD] = _ForwardMode(**_alone(function))
    if inputs.batched:
        modes[BATCHED] = _batched(function)
    return modes


def _alone(function: TorchFunction) -> dict[str, Any]:
    """Return the fields of a function, without the results of tests of its backward pass."""
    fields_of = {each.name: getattr(function, each.name) for each in fields(function)}
    return {**fields_of, "findings": (), "others": (), "other_modes": {}}


@dataclass(frozen=True)
class _OtherMode(TorchFunction):
    """A module as a `Function` with gradients from another mode, which is checked after plain backward."""

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernel as a tuple, with the gradients of this mode; empty if there is no reference."""

        def run(kernel: Kernel, point: Mapping[str, Array]) -> Evaluation:
            return Evaluation(kernel.run(point).losses, self.gradients(point))

        return tuple(replace(kernel, run=partial(run, kernel)) for kernel in super().kernels)

    def places(self, wrong: Collection[str], right: Collection[str]) -> tuple[str, ...]:
        return ()

    @property
    def calls(self) -> tuple[Call, ...]:
        return ()

    def attached(self) -> tuple[Attached, ...]:
        """Return an empty tuple, since the check of plain backward already finds detached branches."""
        return ()

    def wide_gradients(self) -> None:
        """Return None, because plain backward already shows the rounding errors of the module's own dtype."""


@dataclass(frozen=True)
class _ForwardMode(_OtherMode):
    """A module as a `Function` whose gradients come from forward mode, one pass for each entry."""

    @property
    def origin(self) -> str:
        return f"torch forward mode of {self.code}"

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with hinted(_HOW_TO_JVP), self.code.running("in forward mode"):
            return forward_gradients(self.graph, parameters, self.upstream.weights)


_HOW_TO_JVP = "forward mode needs a jvp: give each autograd.Function a static method jvp(ctx, *tangents)"


# --- several upstreams at once ------------------------------------------------------------------------------


class _Way(NamedTuple):
    """One of torch's ways to run backward for several upstreams at once, with the name of the way."""

    name: str
    run: Batch


def _ways(torch: Any) -> list[_Way]:
    grad = torch.autograd.grad

    def by_vmap(terms: Tensor, tensors: Sequence[Tensor], upstreams: Tensor) -> Sequence[Tensor]:
        def of_one(upstream: Tensor) -> Sequence[Tensor]:
            return tuple(grad(terms, tensors, upstream, retain_graph=True))

        found: Sequence[Tensor] = torch.func.vmap(of_one)(upstreams)
        return found

    return [
        _Way(
            "is_grads_batched", lambda terms, tensors, ups: grad(terms, tensors, ups, is_grads_batched=True)
        ),
        _Way("torch.func.vmap", by_vmap),
    ]


@dataclass(frozen=True, kw_only=True)
class _Batched(_OtherMode):
    """A module as a `Function` whose gradients come from one backward pass for several upstreams.

    In each row of the batch, the upstream of the check is multiplied by different factors.

    way: the way to run that backward pass.
    row: the row whose gradients are checked.
    whole: the weights in the loss that is checked.
    factors: the factors on the S loss terms in each row, (rows, S).
    """

    way: _Way
    row: int
    whole: Weights
    factors: Array

    @property
    def origin(self) -> str:
        return f"torch batched backward ({self.way.name}) of {self.code}"

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.rows(parameters)[self.row]

    def rows(self, parameters: Mapping[str, Array]) -> list[Mapping[str, Array]]:
        """Return the gradients for each row of the batch."""
        with hinted(_HOW_TO_BATCH), self.code.running(f"in a batch of upstream gradients ({self.way.name})"):
            return self.graph.batched_gradients(parameters, self.whole, self.factors, self.way.run)


_HOW_TO_BATCH = "write backward with operations that torch.func.vmap can batch, or leave 'batched' out"


def _batched(function: TorchFunction) -> _Batched:
    """Return the module with gradients from a batch of upstreams.

    Usually, the row with the upstream of the check is checked. But if another row's gradients differ from the
    gradients of a run with that row's upstream alone, that row is checked instead.
    """
    whole = function.upstream.weights
    factors = drawn((_ROWS, len(whole.terms)), np.random.default_rng(2))
    factors[_ROWS // 2] = 1.0
    upstreams = [replace(function.upstream, weights=whole.multiplied(row)) for row in factors]
    alone = [replace(function, upstream=each).gradients(function.parameters) for each in upstreams]
    for way in _ways(function.graph.torch):
        batched = _Batched(**_alone(function), way=way, row=_ROWS // 2, whole=whole, factors=factors)
        for row, together in enumerate(batched.rows(function.parameters)):
            if differ := apart_by_more_than_rounding(alone[row], together, function.graph.eps):
                sentence = _DIFFERS.format(way.name, listed(differ))
                finding = Finding(differ, sentence)
                return replace(batched, row=row, upstream=upstreams[row], findings=(finding,))
    return batched


_DIFFERS = (
    "For a batch of upstream gradients ({}), backward gives a different gradient of {} than for each "
    "upstream gradient alone"
)
