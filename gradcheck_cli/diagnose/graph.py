"""Diagnosis for networks that are arbitrary graphs of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.branches import owners
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.diagnose.entries_off import entries_off
from gradcheck_cli.diagnose.graph_search import GraphSearch
from gradcheck_cli.diagnose.memory import FORGETFUL, Memory
from gradcheck_cli.diagnose.network import (
    MOST,
    Setting,
    in_words,
    norms_of,
    silent_units,
    target_of,
    with_overflow,
)
from gradcheck_cli.diagnose.nothing import all_zero
from gradcheck_cli.diagnose.observe import constant_ratios
from gradcheck_cli.diagnose.other_graphs import explain_by_other_graphs
from gradcheck_cli.diagnose.other_networks import KIND
from gradcheck_cli.diagnose.rows import compared, matrices
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import Pass, pass_through
from gradcheck_cli.diagnose.wrong_scales import Sizes
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@np.errstate(all="ignore")
def diagnose_graph(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str] = frozenset(),
    most: int = MOST,
    memory: Memory = FORGETFUL,
) -> Diagnosis:
    """Return a diagnosis: the mistakes that, if made in our own backprop, reproduce the author's gradients.

    comparisons: the author's gradients.
    right: the correct gradients, by parameter name.
    without: the kinds of mistakes to leave out, as if they were unknown.
    most: the largest number of simultaneous mistakes to search for.
    memory: the results that diagnoses of this problem share.
    """
    exact = matrices(right)
    targets = {c.name: target_of(c, exact[c.name]) for c in compared(comparisons)}
    targets = {name: replace(target, silent=silent_units(name, targets)) for name, target in targets.items()}
    at = pass_through(problem, {name: target.found for name, target in targets.items()}, memory)
    nothing = all_zero(targets, None, without)
    answers, tried = (nothing, 0) if nothing else _answers(at, targets, without, most)
    off = topmost_wrong(problem.network.graph, targets)
    return Diagnosis(
        tuple(with_overflow(answers, targets, None)),
        tried,
        () if answers else tuple(map(as_sentence, _observed(problem.network.graph, targets, off))),
        _blamed(answers) if answers else tuple(off),
        "network",
    )


def _answers(
    at: Pass, targets: Mapping[str, Target], without: frozenset[str], limit: int
) -> tuple[list[Answer], int]:
    """Return the answers and the number of visits to nodes that the search made.

    Single mistakes are tried first, then networks that differ in an option, then pairs of mistakes.
    """
    if all(target.is_right for target in targets.values()):
        return [], 0
    setting = Setting(at.problem, Sizes.of(at.problem), norms_of(targets), without)
    search = GraphSearch(at, targets, without)
    for most in range(1, limit + 1):
        if answers := in_words(search.run(most), setting):
            return answers, search.tried
        if most == 1 and KIND not in without and (others := explain_by_other_graphs(at.problem, targets)):
            return others, search.tried
    return [], search.tried


def _blamed(answers: Sequence[Answer]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer for cause in answers[0].causes for layer in cause.where))


# --- without an answer -------------------------------------------------------------------------------------


def topmost_wrong(graph: Graph, targets: Mapping[str, Target]) -> list[str]:
    """Return the topmost layers with a wrong gradient, from the output down.

    A layer is left out if any layer above it has a wrong gradient.
    """
    highest, owner = _highest_use(graph), owners(graph)
    wrong = [name for name in highest if name in targets and not targets[name].is_right]
    above = {name: _layers_above(graph, highest[name]) for name in wrong}
    layers = {owner[name] for name in wrong}
    top = [name for name in wrong if not above[name] & layers - {owner[name]}]
    return list(dict.fromkeys(owner[name] for name in sorted(top, key=highest.__getitem__, reverse=True)))


def _highest_use(graph: Graph) -> dict[str, int]:
    """Return, by parameter name, the index of the last node that uses the parameter."""
    return {name: i for i, node in enumerate(graph.nodes) for name in node.names.values()}


def _layers_above(graph: Graph, i: int) -> set[str]:
    """Return the layers whose parameters are used above node i of the graph."""
    owner = owners(graph)
    return {owner[name] for k in graph.above(i + 1) for name in graph.nodes[k].names.values()}


def _observed(graph: Graph, targets: Mapping[str, Target], off: Sequence[str]) -> Iterator[str]:
    """Yield what is known if no mistake explains everything, one sentence per fact."""
    if not off:
        return
    yield _where(graph, targets, off)
    yield from constant_ratios(targets)
    yield from entries_off(targets, targets)


def _where(graph: Graph, targets: Mapping[str, Target], off: Sequence[str]) -> str:
    highest, owner = _highest_use(graph), owners(graph)
    above = set().union(*(_layers_above(graph, i) for name, i in highest.items() if owner[name] in off))
    in_order = dict.fromkeys(owner[name] for name in reversed(highest) if name in targets)
    checked = [layer for layer in in_order if layer in above and layer not in off]
    layers = f"layer{'s' if len(off) > 1 else ''} {listed(off)}"
    if not checked:
        topmost = (
            f"the topmost layers, {listed(off)}, are" if len(off) > 1 else f"the topmost layer, {off[0]}, is"
        )
        return f"{topmost} wrong: the mistake is there, or in ∂L/∂a, the gradient of the loss"
    many = len(checked) > 1
    them = "those layers" if len(off) > 1 else "that layer"
    return (
        f"layer{'s' if many else ''} {listed(checked)} {'are' if many else 'is'} right: "
        f"the mistake is in {layers}, or in the gradient passed down to {them}"
    )
