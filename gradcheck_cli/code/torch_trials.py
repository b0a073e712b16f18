"""Run backward with other upstream gradients and in other memory layouts, and compare the results.

The gradients must be linear in the upstream gradient, and must not depend on its memory layout. They are not
linear if backward ignores or clips its upstream gradient. They depend on the layout if backward misreads the
memory of that gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Finding
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.reruns import (
    DOES_NOT_ADD,
    FACTOR,
    MISREADS,
    Gradients,
    apart_by_more_than_rounding,
    disproportion,
    not_in_proportion,
)
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_upstream import Node, Upstream, contiguous, strided

Tensor = Any


@dataclass(frozen=True)
class Trial:
    """A finding from a second run of backward.

    upstream: the upstream gradient of that run. The gradients are checked once more with this upstream.
    """

    finding: Finding
    upstream: Upstream


@dataclass(frozen=True)
class Trials:
    """The results of all runs of backward: the findings, and one remark for each run that failed."""

    found: tuple[Trial, ...]
    remarks: tuple[str, ...]


def tried(code: Callee, graph: Graph, point: Gradients, plain: Upstream, judged: Upstream) -> Trials:
    """Run backward with other upstream gradients and in other memory layouts, and compare the results.

    point: the parameters at which to run.
    plain: the upstream of the author's loss.
    judged: the upstream with which the gradients are checked.
    """
    laboratory = _Laboratory(code, graph, point)
    found: dict[str, Trial] = {}
    for trial in laboratory.trials(plain, judged):
        found.setdefault(trial.finding.sentence, trial)
    return Trials(tuple(found.values()), tuple(laboratory.remarks))


@dataclass(frozen=True)
class _Run:
    gradients: Gradients
    steps: Sequence[_Step]


@dataclass(frozen=True)
class _Step:
    """The gradients that one backward node outside torch received and returned.

    up: the gradients that the node received.
    down: the gradients that the node returned.
    overwrites: whether the node changed the received gradients in place.
    """

    name: str
    up: Sequence[Tensor | None]
    down: Sequence[Tensor | None]
    overwrites: bool


@dataclass
class _Laboratory:
    code: Callee
    graph: Graph
    point: Gradients
    remarks: list[str] = field(default_factory=list)

    def trials(self, plain: Upstream, judged: Upstream) -> Iterator[Trial]:
        first = self._run(judged, "with the loss that is checked")
        if first is None:
            return
        if first.steps:
            yield from self._layouts(plain, judged, first)
        other = self._run(judged.times(FACTOR), f"with its loss multiplied by {FACTOR:g}")
        if other:
            yield from self._disproportion(first, other, judged.times(FACTOR))
        yield from self._not_additive(first, judged)

    def _layouts(self, plain: Upstream, judged: Upstream, first: _Run) -> Iterator[Trial]:
        """Yield a trial for each memory layout of the upstream that changes the results."""
        usual = first if plain is judged else self._run(plain, "with its own loss")
        orderly = self._run(replace(plain, layout=contiguous), "with a contiguous upstream gradient")
        if usual and orderly:
            yield from self._misread(orderly, usual, plain)
        opposite = replace(judged, layout=strided)
        scattered = self._run(opposite, "with an upstream gradient that is not contiguous")
        if scattered:
            yield from self._misread(first, scattered, opposite)

    def _misread(self, first: _Run, second: _Run, upstream: Upstream) -> Iterator[Trial]:
        differ = apart_by_more_than_rounding(first.gradients, second.gradients, self.graph.eps)
        if differ:
            who = _culprit(first, second, 1.0, float(np.sqrt(self.graph.eps)))
            what = MISREADS
            if overwriting := next((step for step in second.steps if step.overwrites), None):
                who, what = f"The backward of {_function_name(overwriting.name)}", _OVERWRITES
            yield Trial(Finding(differ, f"{who} {what.format(listed(differ))}"), upstream)

    def _disproportion(self, first: _Run, second: _Run, upstream: Upstream) -> Iterator[Trial]:
        differ = not_in_proportion(first.gradients, second.gradients, FACTOR)
        if differ:
            who = _culprit(first, second, FACTOR, 1e-3)
            sentence = disproportion(first.gradients, second.gradients, differ)
            yield Trial(Finding(differ, f"{who} {sentence}"), upstream)

    def _not_additive(self, first: _Run, judged: Upstream) -> Iterator[Trial]:
        """Yield a trial if the gradient for the sum of two upstreams is not the sum of the two gradients."""
        other = judged.redrawn()
        if other is None:
            return
        second = self._run(other, "with other weights in its loss")
        both = self._run(judged.plus(other), "with the sum of two weights in its loss")
        if second is None or both is None:
            return
        added = _sum_of(first, second)
        if differ := apart_by_more_than_rounding(added.gradients, both.gradients, self.graph.eps):
            who = _culprit(added, both, 1.0, float(np.sqrt(self.graph.eps)))
            yield Trial(Finding(differ, f"{who} {DOES_NOT_ADD.format(listed(differ))}"), judged.plus(other))

    def _run(self, upstream: Upstream, circumstances: str) -> _Run | None:
        """Run backward with this upstream and return the result.

        If the code fails, add a remark and return None.

        circumstances: a phrase for the error message that says what is unusual about the run.
        """
        steps: list[_Step] = []
        try:
            with may_fail(), self.code.running(circumstances):
                gradients = self.graph.gradients(self.point, upstream, watch=_recorder(steps))
        except RefusedError as refused:
            self.remarks.append(str(refused))
            return None
        return _Run(gradients, steps)


def _sum_of(first: _Run, second: _Run) -> _Run:
    """Return the result that a run with the sum of two upstreams has if every step of backward is linear."""
    gradients = {name: np.asarray(g + second.gradients[name]) for name, g in first.gradients.items()}
    steps = [
        _Step(one.name, _sums(one.up, other.up), _sums(one.down, other.down), overwrites=False)
        for one, other in zip(first.steps, second.steps, strict=False)
    ]
    return _Run(gradients, steps)


def _sums(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> list[Tensor | None]:
    pairs = zip(first, second, strict=False)
    return [None if a is None or b is None else a.to_dense() + b.to_dense() for a, b in pairs]


_OVERWRITES = (
    "changes its upstream gradient in place, although other steps may still read it: with a copy of the "
    "upstream gradient, the gradient of {} is different"
)


def _recorder(steps: list[_Step]) -> Callable[[Sequence[Node]], None]:
    """Return a function that hooks into backward nodes. Each node that runs then adds a step to `steps`."""

    def record(node: Node) -> None:
        handed: list[Sequence[Tensor | None]] = []

        def before(up: Sequence[Tensor | None]) -> None:
            handed.append([grad if grad is None else grad.clone() for grad in up])

        def after(down: Sequence[Tensor | None], up: Sequence[Tensor | None]) -> None:
            changed = not all(map(_are_equal, handed.pop(), up))
            steps.append(_Step(node.name(), tuple(up), tuple(down), changed))

        node.register_prehook(before)
        node.register_hook(after)

    def watch(nodes: Sequence[Node]) -> None:
        for node in nodes:
            record(node)

    return watch


# --- compared -------------------------------------------------------------------------------


def _culprit(first: _Run, second: _Run, factor: float, apart: float) -> str:
    """Return a phrase that names the backward node to blame for the difference between two runs.

    The blame falls on the first node whose received gradients scale by `factor` in the second run, but whose
    returned gradients do not. If there is no such node, the phrase is just ``Backward``.

    apart: the tolerance, relative to the largest entry.
    """
    for one, other in zip(first.steps, second.steps, strict=False):
        if _alike(one.up, other.up, factor, apart) and not _alike(one.down, other.down, factor, apart):
            return f"The backward of {_function_name(one.name)}"
    return "Backward"


def _alike(
    first: Sequence[Tensor | None], second: Sequence[Tensor | None], factor: float, apart: float
) -> bool:
    return len(first) == len(second) and all(
        a is b if a is None or b is None else _close(a.to_dense(), b.to_dense(), factor, apart)
        for a, b in zip(first, second, strict=True)
    )


def _are_equal(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(((first == second) | (first != first)).all()) if "strided" in str(first.layout) else True


def _close(a: Tensor, b: Tensor, factor: float, apart: float) -> bool:
    if a.shape != b.shape or not a.numel():
        return bool(a.shape == b.shape)
    largest = max(float(a.abs().max()) * abs(factor), float(b.abs().max()))
    return bool((b - factor * a).abs().max() <= apart * largest)


def _function_name(node: str) -> str:
    """Return the function name in a node's name: ``Cube`` in ``CubeBackward`` or ``…::CppNode<Cube>``."""
    return node.removesuffix(">").rpartition("<")[2].removesuffix("Backward")
