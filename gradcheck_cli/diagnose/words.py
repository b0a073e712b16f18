"""Mistakes that were found, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gradcheck_cli.diagnose.diagnosis import Cause
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.wrong_losses import name_of
from gradcheck_cli.model.problem import Problem


def cause_of(made: Sequence[Made], problem: Problem | None) -> Cause:
    """One mistake, made in one place or in several; problem: the network, where one is known."""
    first = made[0]
    layers = list(dict.fromkeys(each.layer for each in made))
    tensors = [each.tensor for each in made if each.tensor]
    words = {
        "where": _where(made, layers, problem),
        "tensor": listed(tensors),
        "it": _it(first, layers, tensors, problem),
        "place": _place(made),
        "value": "" if first.value is None else f"{first.value:.6g}",
        **(_of_network(problem, layers) if problem else {}),
    }
    return Cause(
        first.wrong.kind,
        first.wrong.family,
        tuple(layers),
        " ".join(as_sentence(_filled(text, words)) for text in _sentences(made, problem, words)),
        _filled(first.wrong.wrong, words),
        _filled(first.wrong.right, words),
        first.wrong.factor,
        first.wrong.unknown,
        first.value,
    )


def _sentences(made: Sequence[Made], problem: Problem | None, words: Mapping[str, str]) -> list[str]:
    """What happened; where one kind was made in several ways, each with its own places."""
    rows = {id(each.wrong): each.wrong for each in made}
    if len(rows) == 1:
        return [made[0].wrong.sentence]
    texts = []
    for row in rows.values():
        own = [each for each in made if each.wrong is row]
        where = _where(own, list(dict.fromkeys(each.layer for each in own)), problem)
        texts.append(row.sentence.replace("{where}", where))
    return list(dict.fromkeys(texts))


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], text)


def _of_network(problem: Problem, layers: Sequence[str]) -> dict[str, str]:
    """The loss and its gradient; the activation and its derivative, if it is one in all of these layers."""
    loss = problem.network.loss
    return {"loss": name_of(loss), "dloss": loss.formula, **_activation(problem, layers)}


def _activation(problem: Problem, layers: Sequence[str]) -> dict[str, str]:
    named = [layer for layer in problem.network.layers if layer.name in layers]
    rows = {layer.activation_name: layer.activation.formula for layer in named}
    if len(rows) != 1:
        return {"activation": "the activation", "phi": "φ'(z)"}
    ((name, formula),) = rows.items()
    is_sum = re.search(r"[−+,]", re.sub(r"\([^()]*\)", "", formula))
    return {"activation": name, "phi": f"({formula})" if is_sum else formula}


def _where(made: Sequence[Made], layers: Sequence[str], problem: Problem | None) -> str:
    names = [layer.name for layer in problem.network.layers] if problem else []
    where = f"layer{'s' if len(layers) > 1 else ''} {listed(layers)}"
    if len(layers) == len(names) > 1:
        where = "every layer"
    places = [each.place for each in made if each.place]
    return f"{places[0]} of {where}" if places and len(layers) == 1 else where


def _it(first: Made, layers: Sequence[str], tensors: Sequence[str], problem: Problem | None) -> str:
    """What a factor bears on."""
    if problem is None and not tensors:
        return "the gradient"
    if problem is None or tensors:
        return f"the gradient of {listed(tensors)}"
    if len(layers) > 1:
        return f"what is handed down, at each of layers {listed(layers)} anew,"
    output, *below = reversed([layer.name for layer in problem.network.layers])
    if layers[0] == output:
        return "the gradient"
    return f"the gradient of layer {layers[0]}" + (" and of all below it" if layers[0] != below[-1] else "")


def _place(made: Sequence[Made]) -> str:
    places = list(dict.fromkeys(each.place for each in made if each.place))
    if len(places) == 1:
        return places[0]
    return listed([f"{each.place} of {each.tensor}" for each in made if each.place])
