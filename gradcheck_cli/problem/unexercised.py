"""List what this network, with these parameters and data, cannot reveal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.problem.problem import Problem


def unexercised(problem: Problem) -> tuple[str, ...]:
    """Return one short line for each thing that could hide a mistake."""
    return (*_data(problem), *_parameters(problem), *_activations(problem))


def unusual(problem: Problem) -> tuple[str, ...]:
    """Return one short line for each thing that is allowed but seldom intended."""
    return (*_output(problem), *_targets(problem))


def _output(problem: Problem) -> Iterator[str]:
    layer, loss = problem.network.output, problem.network.loss
    name = layer.activation_name
    if name == loss.applies:
        yield f"the loss takes logits and applies {name} itself, so the output layer applies it a second time"
    elif loss.unbounded and layer.activation.shares:
        yield f"the loss expects unbounded outputs, but {name} limits them to between 0 and 1"


_SUM_APART = 0.01
"""Tolerance for probabilities that were rounded to two decimals."""


def _targets(problem: Problem) -> Iterator[str]:
    """Yield a note for targets that the loss is not meant for, before smoothing and weighting."""
    loss, target = problem.network.loss, problem.plain_target
    low, high = loss.limits
    outside = int(((target < low) | (target > high)).any(axis=1).sum())
    if outside:
        yield f"targets of {outside} of {len(target)} samples are not between {low:g} and {high:g}"
    apart = int((np.abs(target.sum(axis=1) - 1) > _SUM_APART).sum()) if loss.target == "distribution" else 0
    if apart:
        yield f"targets of {apart} of {len(target)} samples do not add up to 1, as probabilities do"


def _data(problem: Problem) -> Iterator[str]:
    if len(problem.x) == 1:
        yield "one sample: a wrong mean or sum over the batch would not show"
    dead = int((problem.x == 0).all(axis=0).sum())
    if dead and problem.x.ndim == 2:
        first, inputs = problem.network.layers[0].weight, problem.x.shape[1]
        yield f"{dead} of {inputs} inputs are 0 in every sample: their columns of {first} get no gradient"
    if not problem.target.any():
        yield "all targets are 0: a sign lost on the target would not show"


def _parameters(problem: Problem) -> Iterator[str]:
    biases = [layer.bias for layer in problem.network.layers]
    zero = [name for name in biases if not problem.parameters[name].any()]
    if zero:
        which = "all biases are 0" if len(zero) == len(biases) else f"{', '.join(zero)} is 0"
        yield f"{which}: a bias left out of the forward pass would not show"
    ones = [
        layer.gamma
        for layer in problem.network.layers
        if layer.batch_norm is not None and (problem.parameters[layer.gamma] == 1).all()
    ]
    if ones:
        yield f"{', '.join(ones)} is 1: a gamma left out of the forward pass or of backprop would not show"
    for layer in problem.network.layers[1:]:
        if not problem.parameters[layer.weight].any():
            yield f"{layer.weight} is 0: the layers below it get no gradient"
    for layer in problem.network.layers:
        shape = layer.step.shapes["weight"]
        if len(shape) == 2 and shape[0] == shape[1] > 1 and layer.weight in problem.checked:
            yield f"{layer.weight} is square: a transposed array would fit its shape"


def _activations(problem: Problem) -> Iterator[str]:
    for layer, at in zip(problem.network.layers, problem.network.places, strict=True):
        y = problem.objective.values[at.y]
        if layer.activation.pieces is None:
            continue
        for side, seen in (("negative", y < 0), ("positive", y > 0)):
            if not seen.any():
                yield f"no pre-activation of {layer.name} is {side}: that side of its kink is unseen"
        off = int((layer.step.by_row(y) <= 0).all(axis=0).sum())
        if off and layer.activation_name == "relu":
            yield f"{off} of {layer.units} units of {layer.name} are off in every sample: no gradient there"
