"""Explain why a gradient is wrong by naming the mistake that produces it.

If the spec describes a network, every wrong formula in the tables (`table.py`) is computed for that network
and its data. The formula that reproduces the gradient up to rounding is the answer (`search.py`). The spec
may also describe a different network from the author's. `other_networks.py` searches for the author's
network. If the spec describes no network, only the arrays are compared (`arrays.py`). If nothing matches, the
diagnosis does not guess; it reports what is known (`observe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.arrays import diagnose_arrays
from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.graph import diagnose_graph
from gradcheck_cli.diagnose.memory import FORGETFUL, Memory
from gradcheck_cli.diagnose.network import MOST, diagnose_network, target_of
from gradcheck_cli.diagnose.other_networks import KIND, are_measured, explain_gradients, with_this_loss
from gradcheck_cli.diagnose.rows import compared, has_rows, matrices
from gradcheck_cli.diagnose.subsets import as_sentence
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.turned import turned
from gradcheck_cli.diagnose.values import diagnose_values
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.losses import same_loss
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


def diagnose(
    comparisons: Sequence[Comparison],
    problem: Problem | None,
    is_its_loss: bool = True,
    samples: int | None = None,
    without: frozenset[str] = frozenset(),
    in_out: bool = False,
    loss: float | None = None,
    memory: Memory = FORGETFUL,
    most: int = MOST,
) -> Diagnosis:
    """Return a diagnosis of the wrong gradients.

    problem: the network, if the spec describes one.
    is_its_loss: whether the finite differences belong to the network's own loss. If not, they belong to the
        loss that the author's code returns, which may be different.
    samples: the number of samples, if known.
    without: the kinds of mistakes to leave out.
    in_out: whether the author's file stores weights as [in, out]. If so, a row of a weight in the file is a
        column here.
    loss: the author's loss, if known.
    memory: the results that diagnoses of this problem share.
    most: the largest number of simultaneous mistakes to search for in a network's backprop.
    """
    found = _diagnosed(comparisons, problem, is_its_loss, samples, without, loss, memory, most)
    return turned(found) if in_out else found


def _diagnosed(
    comparisons: Sequence[Comparison],
    problem: Problem | None,
    is_its_loss: bool,
    samples: int | None,
    without: frozenset[str],
    loss: float | None,
    memory: Memory,
    most: int,
) -> Diagnosis:
    if problem is None:
        return diagnose_arrays(comparisons, samples, without)
    parameters = [c for c in comparisons if c.name in problem.network.shapes]
    of_inputs = [c for c in comparisons if c.name == INPUTS and is_its_loss]
    if of_inputs and not (has_rows(problem) and _any_wrong(parameters)):
        found = _with_inputs(problem, [*parameters, *of_inputs], without, memory, most)
        if found.answers or _any_wrong(parameters):
            return found
    if not _any_wrong(parameters) and len(parameters) < len(comparisons):
        return diagnose_values(comparisons, problem)
    found = _of_parameters(problem, parameters, is_its_loss, samples, without, loss, memory, most)
    if found.answers or not _any_wrong(of_inputs):
        return found
    whole = _with_inputs(problem, [*parameters, *of_inputs], without, memory, most)
    return whole if whole.answers else found


def _any_wrong(comparisons: Sequence[Comparison]) -> bool:
    return any(c.wrong.any() for c in comparisons)


def _with_inputs(
    problem: Problem,
    comparisons: Sequence[Comparison],
    without: frozenset[str],
    memory: Memory,
    most: int,
) -> Diagnosis:
    """Return a diagnosis of the gradients of x and of the parameters, with x as one more parameter."""
    whole = problem.with_shifts({INPUTS: INPUT})
    with np.errstate(all="ignore"):
        right = gradients(whole.network, whole.parameters, whole.x, whole.target)
        return diagnose_graph(whole, right, comparisons, without, most, memory.of(INPUTS))


def _of_parameters(
    problem: Problem,
    comparisons: Sequence[Comparison],
    is_its_loss: bool,
    samples: int | None,
    without: frozenset[str],
    loss: float | None,
    memory: Memory,
    most: int,
) -> Diagnosis:
    with np.errstate(all="ignore"):
        whole = gradients(problem.network, problem.parameters, problem.x, problem.target)
        if not has_rows(problem):
            return _of_graph(problem, whole, comparisons, is_its_loss, samples, without, memory, most)
        right, given, comparisons = matrices(whole), comparisons, compared(comparisons)
        if is_its_loss:
            found = _of_network(problem, right, comparisons, without, loss, most)
            return _or_of_its_steps(found, problem, whole, given, without, most)
        if are_measured(right.items(), {c.name: c for c in comparisons}):
            return diagnose_network(problem, right, comparisons, without, most)
        return _of_another_loss(problem, right, comparisons, samples, without, loss)


def diagnosis_of_trials(shown: Sequence[str]) -> Diagnosis:
    """Return a diagnosis that reports only what further runs of the code have shown.

    These facts may explain every wrong entry, so no other cause is sought.
    """
    return Diagnosis((), 0, (), (), "arrays", tuple(shown))


def _of_graph(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    is_its_loss: bool,
    samples: int | None,
    without: frozenset[str],
    memory: Memory,
    most: int,
) -> Diagnosis:
    if is_its_loss:
        return diagnose_graph(problem, right, comparisons, without, most, memory)
    return diagnose_arrays(comparisons, samples, without)


def _or_of_its_steps(
    found: Diagnosis,
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str],
    most: int,
) -> Diagnosis:
    """Return the simpler of two diagnoses: `found`, or the one that treats the network as a graph of steps.

    `found` treats the network as a chain of layers. The search over graphs knows more mistakes in steps other
    than dense layers and activations. That search is used if `found` does not explain everything by a single
    mistake, or only by a factor. A step may cause such a factor, for example an average pooling that does not
    divide.
    """
    plain = all(isinstance(node.step, (Dense, Pointwise)) for node in problem.network.graph.nodes)
    if plain or any(len(answer.causes) == 1 and not _is_factor(answer) for answer in found.answers):
        return found
    is_between = not found.answers and any(layer.before for layer in problem.network.layers)
    of_graph = diagnose_graph(problem, right, comparisons, without, most if is_between else 1)
    if not of_graph.answers or (found.answers and all(map(_is_factor, of_graph.answers))):
        return found
    factors = [answer for answer in found.answers if _is_factor(answer)]
    return replace(of_graph, answers=tuple(_distinct([*of_graph.answers, *factors])))


def _is_factor(answer: Answer) -> bool:
    """Return whether an answer only says that a gradient is multiplied by a constant."""
    return len(answer.causes) == 1 and answer.causes[0].unknown == "factor"


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    """Return the first answer for each combination of kinds of mistakes."""
    kinds: dict[tuple[str, ...], Answer] = {}
    for answer in answers:
        kinds.setdefault(tuple(cause.kind for cause in answer.causes), answer)
    return list(kinds.values())


# --- the network's own loss --------------------------------------------------------------------------------


def _of_network(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    without: frozenset[str],
    loss: float | None,
    most: int,
) -> Diagnosis:
    """Return the diagnosis of gradients that were checked against the network's own loss.

    First, the loss that the author's code returned is compared with the loss of the spec's network. If the
    two differ, a mistake in backprop cannot be the whole answer.
    """
    ours, eps = float(problem.objective.total), _coarsest(comparisons)
    is_another = loss is not None and not same_loss(loss, ours, eps)
    targets = {c.name: target_of(c, right[c.name]) for c in comparisons}
    if is_another and (answers := _other_networks(problem, targets, loss, eps, without)):
        return Diagnosis(tuple(answers), 0, (), _layers(answers), "network")
    found = diagnose_network(problem, right, comparisons, without, most)
    if all(target.is_right for target in targets.values()):
        return found
    if all(len(answer.causes) > 1 for answer in found.answers) and (
        answers := _other_networks(problem, targets, loss, eps, without)
    ):
        return replace(found, answers=tuple(answers), observations=(), layers=_layers(answers))
    if not is_another:
        return replace(found, observations=(*found.observations, *_doubts(found, problem, loss)))
    known = (
        f"Your loss is {loss:.6g}, but the spec's is {ours:.6g}: "
        "the spec describes a different network from yours."
    )
    return replace(found, observations=(known,), layers=found.layers if found.answers else ())


def _other_networks(
    problem: Problem,
    targets: Mapping[str, Target],
    loss: float | None,
    eps: float,
    without: frozenset[str],
) -> list[Answer]:
    return [] if KIND in without else explain_gradients(problem, targets, loss, eps)


def _layers(answers: Sequence[Answer]) -> tuple[str, ...]:
    return answers[0].causes[0].where


def _doubts(found: Diagnosis, problem: Problem, loss: float | None) -> list[str]:
    """Return a hint to compare the losses if the output layer is wrong and no mistake explains the error.

    The spec may then describe a different network from the author's. Otherwise, the result is empty.
    """
    if found.answers or loss is not None or found.layers[:1] != (problem.network.output.name,):
        return []
    ours = float(problem.objective.total)
    return [f"If your loss is not {ours:.6g}, the spec describes a different network from yours."]


# --- code whose loss differs from the network's ------------------------------------------------------------


def _of_another_loss(
    problem: Problem,
    right: Mapping[str, Array],
    comparisons: Sequence[Comparison],
    samples: int | None,
    without: frozenset[str],
    loss: float | None,
) -> Diagnosis:
    if all(target_of(c, right[c.name]).is_right for c in comparisons):
        return _loss_returned(float(problem.objective.total), loss, comparisons)
    other = None if loss is None else with_this_loss(problem, comparisons, loss, _coarsest(comparisons))
    if other is None:
        return replace(diagnose_arrays(comparisons, samples, without), basis="another network")
    known = as_sentence(other.told("the function returned the loss", "the network section"))
    if other.factors:  # our backprop does not compute that network's gradients
        found = replace(diagnose_arrays(comparisons, samples, without), basis="another network")
    else:
        found = diagnose_network(other.problem, dict(other.gradients()), comparisons, without)
    return replace(found, observations=(known, *found.observations))


def _loss_returned(ours: float, loss: float | None, comparisons: Sequence[Comparison]) -> Diagnosis:
    """Return the diagnosis for code whose gradients are correct but whose loss differs from the network's."""
    another = loss is None or not same_loss(loss, ours, _coarsest(comparisons))
    theirs = "is different" + ("" if loss is None else f": {loss:.6g}") if another else "has other gradients"
    sentence = (
        f"The gradients are those of the network section, whose loss is {ours:.6g}; the loss that the "
        f"function returned {theirs}."
    )
    return Diagnosis((Answer((Cause(KIND, KIND, (), sentence, "", ""),), 0.0),), 0, (), (), "network")


def _coarsest(comparisons: Sequence[Comparison]) -> float:
    return max((c.eps for c in comparisons), default=0.0)
