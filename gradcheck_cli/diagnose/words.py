"""Put the mistakes that a diagnosis found into words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from gradcheck_cli.diagnose.diagnosis import Cause
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.table import SWAPPED
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import Problem


def cause_of(made: Sequence[Made], problem: Problem | None) -> Cause:
    """Return a `Cause` that describes a mistake made in one or several places.

    problem: the network, if known.
    """
    first = made[0]
    words = _words(made, problem)
    wrong, right = _filled(first.wrong.wrong, words), _filled(first.wrong.right, words)
    return Cause(
        first.wrong.kind,
        first.wrong.family.name,
        tuple(filter(None, _layers(made))) or tuple(each.tensor for each in made if each.tensor),
        " ".join(as_sentence(text, [each.tensor for each in made]) for text in _sentences(made, problem)),
        wrong,
        "" if wrong == right else right,
        first.wrong.factor,
        first.wrong.unknown,
        first.value,
    )


def planted_formula(wrong: Wrong, problem: Problem, layer: str, value: float) -> str:
    """Return the wrong formula of a mistake that is planted in a layer.

    value: the value of the mistake's unknown.
    """
    words = {"value": f"{value:.6g}", "place": "some entries", **_of_network(problem, [layer])}
    return _filled(wrong.wrong, words)


def _words(made: Sequence[Made], problem: Problem | None) -> dict[str, str]:
    """Return the words for the placeholders of a sentence or formula."""
    first = made[0]
    layers = _layers(made)
    tensors = _in_order([each.tensor for each in made if each.tensor], problem)
    return {
        "where": _where(made, layers, problem),
        "tensor": listed(tensors),
        "it": _it(first, layers, tensors, problem),
        "place": first.place,
        "value": "" if first.value is None else f"{first.value:.6g}",
        **(_of_network(problem, layers) if problem else {}),
    }


def _in_order(tensors: Sequence[str], problem: Problem | None) -> list[str]:
    """Return the names of the tensors in the same order as in the table of results."""
    if problem is None:
        return list(tensors)
    return [name for name in problem.network.shapes if name in tensors]


def _layers(made: Sequence[Made]) -> list[str]:
    return list(dict.fromkeys(each.layer for each in made))


def _sentences(made: Sequence[Made], problem: Problem | None) -> list[str]:
    """Return sentences that say what happened, one for each wording and place."""
    if made[0].wrong is SWAPPED:
        return list(_swapped(made))
    ways: dict[tuple[str, str], list[Made]] = {}
    for each in made:
        ways.setdefault((each.wrong.sentence, each.place), []).append(each)
    texts = [_filled(way[0].wrong.sentence, _words(way, problem)) + _when(way) for way in ways.values()]
    return list(dict.fromkeys(texts))


def _when(made: Sequence[Made]) -> str:
    return ", before the penalty is added" if any(each.early for each in made) else ""


def _swapped(made: Sequence[Made]) -> Iterator[str]:
    """Yield one sentence for each pair of swapped tensors, and one for each remaining tensor."""
    stands_for = {each.tensor: each.place for each in made}
    for tensor, other in stands_for.items():
        if stands_for.get(other) != tensor:
            yield f"the gradient of {tensor} equals that of {other}"
        elif list(stands_for).index(tensor) < list(stands_for).index(other):
            yield f"the gradients of {tensor} and {other} are swapped"


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], text)


def _of_network(problem: Problem, layers: Sequence[str]) -> dict[str, str]:
    """Return the words for the loss and for the activations of these layers. The activations may differ."""
    loss = problem.network.loss
    of_sample = "" if problem.sample_weight is None else "wₙ "
    of_class = "" if problem.class_weight is None else "w_y "
    formula = loss.formula.removeprefix(of_sample).removeprefix(of_class)
    return {
        "loss": loss.name,
        "dloss": f"{of_sample}{of_class}{formula}",
        "w": of_sample + of_class,
        "w_n": of_sample,
        **_activation(problem, layers),
    }


def _activation(problem: Problem, layers: Sequence[str]) -> dict[str, str]:
    own = [node.step for node in problem.network.graph.nodes if node.layer in layers]
    rows = {step.name: step.row.formula for step in own if isinstance(step, Pointwise)}
    if len(rows) != 1:
        return {"activation": "the activation", "phi": "φ'(z)"}
    ((name, formula),) = rows.items()
    is_sum = re.search(r"[−+,]", re.sub(r"\([^()]*\)", "", formula))
    return {"activation": name, "phi": f"({formula})" if is_sum else formula}


def _where(made: Sequence[Made], layers: Sequence[str], problem: Problem | None) -> str:
    names = layers_of(problem) if problem else []
    where = f"layer{'s' if len(layers) > 1 else ''} {listed(layers)}"
    if len(layers) == len(names) > 1:
        where = "every layer"
    return f"{made[0].place} of {where}" if made[0].place else where


def _it(first: Made, layers: Sequence[str], tensors: Sequence[str], problem: Problem | None) -> str:
    """Return the words for the gradient that a factor applies to."""
    if problem is None and not tensors:
        return "the gradient"
    if problem is None or tensors:
        return f"the gradient of {listed(tensors)}"
    if len(layers) > 1:
        return f"the gradient passed down by each of the layers {listed(layers)}"
    names = layers_of(problem)
    lowest, output = names[0], names[-1]
    if layers[0] == output:
        return "the gradient"
    return f"the gradient of layer {layers[0]}" + (" and of all below it" if layers[0] != lowest else "")


def layers_of(problem: Problem) -> list[str]:
    """Return the names of the layers with parameters, from the input up."""
    return list(dict.fromkeys(node.layer for node in problem.network.graph.nodes if node.names))
