"""Facts about a wrong gradient of unknown cause: which layers are right, and where the gradient is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradcheck_cli.diagnose.diagnosis import Answer
from gradcheck_cli.diagnose.entries_off import entries_off
from gradcheck_cli.diagnose.rows import in_rows
from gradcheck_cli.diagnose.subsets import listed, numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


def faulty_layers(
    problem: Problem, targets: Mapping[str, Target], answers: Sequence[Answer]
) -> tuple[str, ...]:
    """Return the layers in which the first answer's mistakes were made, from the output down.

    If there is no answer, return only the topmost layer with a wrong gradient.
    """
    if answers:
        where = {layer for cause in answers[0].causes for layer in cause.where}
        return tuple(layer.name for layer in reversed(problem.network.layers) if layer.name in where)
    return tuple(_off(problem, targets)[:1])


def _off(problem: Problem, targets: Mapping[str, Target]) -> list[str]:
    """Return the layers with a wrong gradient, from the output down."""
    wrong = {layer_of(name) for name, target in targets.items() if not target.is_right}
    return [layer.name for layer in reversed(problem.network.layers) if layer.name in wrong]


def layer_of(tensor: str) -> str:
    """Return the name of a tensor's layer: ``hidden1`` for ``hidden1.weight``."""
    return tensor.rpartition(".")[0]


def observed(problem: Problem, targets: Mapping[str, Target]) -> Iterator[str]:
    """Yield what is known if no mistake explains everything, one sentence per fact."""
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
        return f"everything below layer {top} is right: the mistake is in {listed(wrong)} alone, not in δ"
    if not above:
        return (
            f"the gradients of the topmost layer, {top}, are wrong: the mistake is in that layer, or in "
            "∂L/∂a, the gradient of the loss"
        )
    checked = [name for name in above if any(layer_of(tensor) == name for tensor in targets)]
    many = len(checked) > 1
    right = f"layer{'s' if many else ''} {listed(checked)} {'are' if many else 'is'} right: "
    return (
        right if checked else ""
    ) + f"the mistake is in layer {top}, or in ∂L/∂a = δ w, the gradient passed down to it"


def _is_known_right(target: Target) -> bool:
    """Return whether the gradient is right, and precise enough that rounding cannot hide a mistake."""
    size = np.abs(target.right).max(initial=0.0)
    return target.is_right and bool(np.median(target.bound) <= _TELLING * size)


_TELLING = 1e-2
"""The largest relative rounding error at which a gradient still says something about the layers above."""


def constant_ratios(targets: Mapping[str, Target]) -> Iterator[str]:
    """Yield a sentence for each gradient that is a constant multiple of the correct one."""
    for name, target in targets.items():
        size = float(np.square(target.right).sum())
        if target.is_right or target.right.size < 2 or not size > 0 or not target.finite.all():
            continue
        ratio = float((target.found * target.right).sum()) / size
        if target.matches(ratio * target.right):
            yield f"the gradient of {name} is {ratio:.6g} times what it should be in every entry"


def _samples_off(problem: Problem, targets: Mapping[str, Target], top: str) -> Iterator[str]:
    """Yield sentences that say in which samples, or for which sign of z, the δ of layer `top` is wrong.

    Nothing is yielded if the gradients of the layer do not determine δ.
    """
    activity = in_rows(problem)
    i = next(i for i, layer in enumerate(problem.network.layers) if layer.name == top)
    delta_off = _delta_off(targets, top, activity.inputs[i])
    if delta_off is None:
        return
    off = np.abs(delta_off) > 1e-6 * np.abs(delta_off).max()
    samples = off.any(axis=1)
    if not samples.all():
        yield f"δ of layer {top} is wrong only in {numbered('sample', samples)} of {len(samples)}"
    for side, mask in (("z < 0", activity.y[i] < 0), ("z > 0", activity.y[i] > 0)):
        if not (off & ~mask).any() and not mask.all():
            yield f"δ of layer {top} is wrong only where {side}"


def _delta_off(targets: Mapping[str, Target], layer: str, a_h: Array) -> Array | None:
    """Return the error of a layer's δ, (N, out), computed from the errors of ∂L/∂w and ∂L/∂b.

    For N samples and the layer's input a⁽ʰ⁾, the gradients are ∂L/∂w = δᵀ a⁽ʰ⁾ and ∂L/∂b = Σₙ δₙ. Returns
    None if both gradients are right, or if they do not determine δ.
    """
    weight, bias = targets.get(f"{layer}.weight"), targets.get(f"{layer}.bias")
    if weight is None or bias is None or not (weight.finite.all() and bias.finite.all()):
        return None
    if weight.is_right and bias.is_right:
        return None
    factors = np.hstack([a_h, np.ones((len(a_h), 1))])
    if np.linalg.matrix_rank(factors) < len(a_h) or np.linalg.cond(factors) > _WELL_CONDITIONED:
        return None
    wrong = np.hstack([weight.found - weight.right, (bias.found - bias.right)[:, None]])
    solved, *_ = np.linalg.lstsq(factors.T, wrong.T, rcond=None)
    meets = np.abs(solved.T @ factors - wrong).max() <= 1e-6 * np.abs(wrong).max()
    return solved if meets else None


_WELL_CONDITIONED = 1e6
