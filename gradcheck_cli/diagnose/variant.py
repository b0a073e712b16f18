"""A `Variant` is a wrong backward pass of one kind of step; a `Visit` is a visit of backprop to a node.

To add the mistakes of a kind of step, write `steps/<kind>.py` with a table of `Variant`s and add the table to
`steps/__init__.py`. A variant reads a `Visit`: the step, its parameters `p`, its inputs and output, and the
upstream gradient. It returns the result of the wrong `vjp`: a gradient for every input and for every
parameter. Most mistakes change only one of these gradients, so `share` and `gradient` take all others from
the correct `vjp`. A variant returns None if the mistake is impossible.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from gradcheck_cli.diagnose.families import Family
from gradcheck_cli.diagnose.memory import FORGETFUL, Memory, Watched
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.rounds import Taken, carried, first_round
from gradcheck_cli.network.graph import Graph, Node, run
from gradcheck_cli.network.step import Inputs, Step
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

T = TypeVar("T")

Handed = tuple[Inputs, dict[str, Array]]
"""The result of a `vjp`: ∂L/∂input for each input, and each parameter's gradient, by its name in the step."""


@dataclass(frozen=True)
class Pass:
    """A forward pass, together with the author's gradients.

    values: x and the output of every node, by their indices in the graph.
    found: the author's gradients, by parameter name, with weights as matrices. Mistakes may use them.
    memory: the results that diagnoses of the same problem share.
    """

    problem: Problem
    values: tuple[Array, ...]
    found: Watched
    memory: Memory

    @property
    def graph(self) -> Graph:
        return self.problem.network.graph

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the result of `compute`, or the one that another diagnosis has computed for this key.

        A result that depends on the author's gradients is always computed.
        """
        return self.memory.once(key, compute, self.found)

    def consumers(self, value: int) -> Sequence[tuple[int, int]]:
        """Return the index of each node that takes a value, and the value's position in the node's inputs."""
        return self._consumers[value]

    @cached_property
    def carried(self) -> frozenset[Taken]:
        """The inputs of nodes that take the state from an earlier round of a loop over time."""
        return carried(self.graph.nodes)

    @cached_property
    def first_round(self) -> frozenset[int]:
        """The nodes in the first round of a loop over time."""
        return first_round(self.graph.nodes)

    @cached_property
    def _consumers(self) -> list[list[tuple[int, int]]]:
        found: list[list[tuple[int, int]]] = [[] for _ in self.values]
        for i, node in enumerate(self.graph.nodes):
            for slot, taken in enumerate(node.inputs):
                found[taken].append((i, slot))
        return found


def pass_through(problem: Problem, found: Mapping[str, Array], memory: Memory = FORGETFUL) -> Pass:
    """Run the problem's network and return the forward pass, together with the author's gradients."""
    values = run(problem.network.graph, problem.parameters, problem.x)
    return Pass(problem, values, Watched(found), memory)


@dataclass(frozen=True)
class Visit:
    """One visit of backprop to node `i`.

    at: the forward pass.
    upstream: ∂L/∂output of the node.
    arrived: ∂L/∂output of every node visited before, by the node's index.
    """

    at: Pass
    i: int
    upstream: Array
    arrived: Mapping[int, Array]

    @property
    def node(self) -> Node:
        return self.at.graph.nodes[self.i]

    @property
    def step(self) -> Step:
        return self.node.step

    @cached_property
    def p(self) -> dict[str, Array]:
        """The step's parameters, by their names in the step."""
        return self.node.own(self.at.problem.parameters)

    @cached_property
    def inputs(self) -> Inputs:
        return tuple(self.at.values[k] for k in self.node.inputs)

    @property
    def output(self) -> Array:
        return self.at.values[self.i + 1]

    @cached_property
    def right(self) -> Handed:
        """The result of the step's correct `vjp` on this visit."""
        return self.step.vjp(self.p, self.inputs, self.output, self.upstream)

    def earlier(self, i: int) -> Visit:
        """Return the visit to node i, which backprop visited before."""
        return Visit(self.at, i, self.arrived[i], self.arrived)

    @property
    def feeder(self) -> int:
        """The index of the node that computes the first input; -1 if there is none or if the input is x."""
        return self.node.inputs[0] - 1 if self.node.inputs else -1

    @property
    def taker(self) -> int:
        """The index of the only node that takes the output; -1 if no node or more than one takes it."""
        takers = [i for i, _ in self.at.consumers(self.i + 1)]
        return takers[0] if len(takers) == 1 else -1


Backward = Callable[[Visit, float], Handed | None]
"""A function that takes a visit and the value of a mistake's unknown, and returns a wrong `vjp`'s result.

It returns None if the mistake does not apply.
"""


@dataclass(frozen=True, eq=False)
class Variant:
    """A mistake in the backward pass of one kind of step.

    wrong: the mistake in words.
    step: the class of the step.
    backward: the wrong `vjp`. If the mistake has an unknown, the result is affine in the unknown.
    everywhere: whether the author must have made the mistake at every node with this kind of step or at none.
    """

    wrong: Wrong
    step: type[Step]
    backward: Backward
    everywhere: bool = False

    def made(self, visit: Visit, unknown: float = 0.0) -> Handed | None:
        """Return the result of the wrong `vjp`; None if the mistake does not apply or changes nothing."""
        handed = self.backward(visit, unknown)
        if handed is None or not any(True for _ in changed(visit.right, handed)):
            return None
        return handed


Of = Callable[[Visit], Array | None]


def variant(
    step: type[Step],
    kind: str,
    family: Family,
    backward: Backward,
    sentence: str,
    wrong: str,
    right: str,
    code: str = "",
    shown_by: str = "",
) -> Variant:
    """Return a `Variant` for a mistake in the gradients that a step passes down.

    sentence: a description of what happened, which follows the words "in layer …".
    code, shown_by: see `Wrong`.
    """
    told = Wrong(kind, family, f"in {{where}}, {sentence}", wrong, right, "δ", code=code, shown_by=shown_by)
    return Variant(told, step, backward)


def share(of: Of, slot: int = 0) -> Backward:
    """Return a `vjp` that passes a wrong gradient to the input `slot` and is otherwise correct."""

    def backward(visit: Visit, _: float) -> Handed | None:
        result, (shares, gradients) = of(visit), visit.right
        if result is None or result.shape != shares[slot].shape:
            return None
        return (*shares[:slot], result, *shares[slot + 1 :]), gradients

    return backward


def gradient(name: str, of: Of) -> Backward:
    """Return a `vjp` that gives parameter `name` a wrong gradient and is otherwise correct."""

    def backward(visit: Visit, _: float) -> Handed | None:
        result, (shares, gradients) = of(visit), visit.right
        if result is None or result.shape != gradients[name].shape:
            return None
        return shares, {**gradients, name: result}

    return backward


def changed(right: Handed, wrong: Handed) -> Iterator[int | str]:
    """Yield the inputs (by position) and the parameters (by name) whose gradients differ."""
    yield from (k for k, (a, b) in enumerate(zip(right[0], wrong[0], strict=True)) if _differ(a, b))
    yield from (name for name, a in right[1].items() if _differ(a, wrong[1][name]))


def _differ(right: Array, wrong: Array) -> bool:
    if right is wrong:
        return False
    size = np.abs(right).max(initial=0.0)
    return not bool((np.abs(wrong - right) <= _SAME * size).all())


_SAME = 1e-13
"""A difference smaller than this fraction of the largest entry is only rounding error."""
