"""What is known of a wrong gradient whatever its cause: which layers are right, and where it is off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcheck_cli.diagnose.diagnosis import Answer
from gradcheck_cli.diagnose.entries_off import entries_off
from gradcheck_cli.diagnose.subsets import listed, numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.model.network import forward
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.model.special import Array


def faulty_layers(
    problem: Problem, targets: Mapping[str, Target], answers: Sequence[Answer]
) -> tuple[str, ...]:
    """The layers that the fault lies in, from the output down; without an answer the topmost that is off."""
    if answers:
        where = {layer for cause in answers[0].causes for layer in cause.where}
        return tuple(layer.name for layer in reversed(problem.network.layers) if layer.name in where)
    return tuple(_off(problem, targets)[:1])


def _off(problem: Problem, targets: Mapping[str, Target]) -> list[str]:
    """The layers with a gradient that is wrong, the output's first."""
    wrong = {layer_of(name) for name, target in targets.items() if not target.is_right}
    return [layer.name for layer in reversed(problem.network.layers) if layer.name in wrong]


def layer_of(tensor: str) -> str:
    """Return the layer of a tensor: ``hidden1`` for ``hidden1.weight``."""
    return tensor.rpartition(".")[0]


def observed(problem: Problem, targets: Mapping[str, Target]) -> Iterator[str]:
    """A sentence for each thing that is known, where no mistake that is known explains the whole."""
    off = _off(problem, targets)
    if not off:
        return
    yield _where(problem, targets, off)
    yield from constant_ratios(targets)
    yield from entries_off(targets, targets)
    yield from _samples_off(problem, targets, off[0])


def _where(problem: Problem, targets: Mapping[str, Target], off: Sequence[str]) -> str:
    names = [layer.name for layer in reversed(problem.network.layers)]
    top, above = off[0], names[: names.index(off[0])]
    wrong = [name for name, target in targets.items() if not target.is_right]
    right_below = [name for name in targets if layer_of(name) in names[names.index(top) + 1 :]]
    if len(off) == 1 and right_below and all(_is_known_right(targets[name]) for name in right_below):
        return f"everything below layer {top} is right: the fault lies in {listed(wrong)} alone, not in δ"
    if not above:
        return (
            f"layer {top}, the topmost, is off: the fault lies in it, or in ∂L/∂a, what the loss hands down"
        )
    checked = [name for name in above if any(layer_of(tensor) == name for tensor in targets)]
    many = len(checked) > 1
    right = f"layer{'s' if many else ''} {listed(checked)} {'are' if many else 'is'} right: "
    return (
        right if checked else ""
    ) + f"the fault lies in layer {top}, or in ∂L/∂a = δ w, what is handed down to it"


def _is_known_right(target: Target) -> bool:
    """Whether it is right to more than rounding might hide: of half precision little is known."""
    size = np.abs(target.right).max(initial=0.0)
    return target.is_right and bool(np.median(target.bound) <= _TELLING * size)


_TELLING = 1e-2
"""A tensor of which a hundredth may be rounding says nothing against the layers above."""


def constant_ratios(targets: Mapping[str, Target]) -> Iterator[str]:
    """Tensors that are a constant times what they should be."""
    for name, target in targets.items():
        size = float(np.square(target.right).sum())
        if target.is_right or target.right.size < 2 or not size > 0 or not target.finite.all():
            continue
        ratio = float((target.found * target.right).sum()) / size
        if target.matches(ratio * target.right):
            yield f"the gradient of {name} is {ratio:.6g} times what it should be, throughout"


def _samples_off(problem: Problem, targets: Mapping[str, Target], top: str) -> Iterator[str]:
    """In which samples δ of the topmost wrong layer is off, where its gradients tell these apart."""
    activity = forward(problem.network, problem.parameters, problem.x)
    i = next(i for i, layer in enumerate(problem.network.layers) if layer.name == top)
    delta_off = _delta_off(targets, top, activity.inputs[i])
    if delta_off is None:
        return
    off = np.abs(delta_off) > 1e-6 * np.abs(delta_off).max()
    samples = off.any(axis=1)
    if not samples.all():
        yield f"δ of layer {top} is off in {numbered('sample', samples)} alone, of {len(samples)}"
    for side, mask in (("z < 0", activity.y[i] < 0), ("z > 0", activity.y[i] > 0)):
        if not (off & ~mask).any() and not mask.all():
            yield f"δ of layer {top} is off only where {side}"


def _delta_off(targets: Mapping[str, Target], layer: str, a_h: Array) -> Array | None:
    """By how much δ (N, out) is off, solved from ∂L/∂w = δᵀ a⁽ʰ⁾ and ∂L/∂b = Σ δ; or None."""
    weight, bias = targets.get(f"{layer}.weight"), targets.get(f"{layer}.bias")
    if weight is None or bias is None or not (weight.finite.all() and bias.finite.all()):
        return None
    factors = np.hstack([a_h, np.ones((len(a_h), 1))])
    if np.linalg.matrix_rank(factors) < len(a_h) or np.linalg.cond(factors) > _WELL_CONDITIONED:
        return None
    wrong = np.hstack([weight.found - weight.right, (bias.found - bias.right)[:, None]])
    solved, *_ = np.linalg.lstsq(factors.T, wrong.T, rcond=None)
    meets = np.abs(solved.T @ factors - wrong).max() <= 1e-6 * np.abs(wrong).max()
    return solved if meets else None


_WELL_CONDITIONED = 1e6
