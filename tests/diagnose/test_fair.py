"""A layer with right gradients is never blamed, whatever mistakes the other layers have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from diagnose.networks import NETWORKS, kinds, problem, right, why
from shares import first

from gradcheck_cli.diagnose.diagnosis import Cause
from gradcheck_cli.problem.problem import Problem

Rng = np.random.Generator
Gradient = np.ndarray

CASES, PARTS = 80, 4
"""How many cases there are, and how many tests they are split into."""

HANDED_DOWN = "∂L/∂a⁽ʰ⁾"
"""Changes that a layer passes down, so that the layer below shows the mistake."""


def factor(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    n = len(of.x)
    by = rng.choice([-1.0, 1 / n, float(n), 2.0, 0.5, 3.0, n / 32, n / (n - 1), -1 / n, rng.normal()])
    return lambda value: by * value


def noise(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    return lambda value: value * (1.0 + 0.1 * rng.normal(size=value.shape))


def nearly_nothing(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    return lambda value: 1e-18 * rng.normal(size=value.shape)


def zeroed_units(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    share = rng.random()

    def change(value: Gradient) -> Gradient:
        units = np.random.default_rng(len(value)).random(len(value)) < share
        return np.where(units.reshape(-1, *[1] * (value.ndim - 1)), 0.0, value)

    return change


def permuted(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    return lambda value: np.roll(value, 1, axis=int(rng.integers(value.ndim)))


def clipped(of: Problem, rng: Rng) -> Callable[[Gradient], Gradient]:
    share = rng.uniform(0.2, 0.9)
    return lambda value: np.clip(value, -share * np.abs(value).max(), share * np.abs(value).max())


CHANGES = (factor, factor, factor, noise, nearly_nothing, zeroed_units, permuted, clipped)
"""Changes to all gradients of a layer; factors are the most common, and the easiest to misplace."""


def drawn_network(rng: Rng) -> Problem:
    names = ["sigmoid", "tanh", "relu", "leaky_relu", "softplus", "silu", "identity"]
    hidden = [str(name) for name in rng.choice(names, size=int(rng.integers(1, 4)))]
    loss = str(rng.choice(["mse", "l1", "huber", "cross_entropy", "hinge", "bce_with_logits"]))
    return problem(
        *hidden,
        "identity",
        loss=loss,
        samples=int(rng.integers(3, 15)),
        batch_norm=bool(rng.random() < 0.2),
        penalty={} if rng.random() < 0.6 else {"l2": 1e-2},
        reduction=str(rng.choice(["batchmean", "sum", "mean"]))
        if loss in ("mse", "l1", "huber")
        else "batchmean",
        units=int(rng.integers(2, 6)),
        outputs=int(rng.integers(2, 5)),
        seed=int(rng.integers(2**31)),
    )


def spoilt(of: Problem, rng: Rng) -> tuple[dict[str, Gradient], set[str]]:
    """Return the gradients with one or two layers changed, and the names of these layers."""
    names = [layer.name for layer in of.network.layers]
    wrong = {str(name) for name in rng.choice(names, size=1 + (len(names) > 2 and rng.random() < 0.2))}
    found = right(of)
    for layer in sorted(wrong):
        change = CHANGES[int(rng.integers(len(CHANGES)))](of, rng)
        for name in [name for name in found if name.startswith(f"{layer}.")]:
            found[name] = change(found[name])
    return found, wrong


def blamed(cause: Cause, of: Problem) -> set[str]:
    """Return the layers that the diagnosis blames."""
    names = [layer.name for layer in of.network.layers]
    below = {names[names.index(layer) - 1] for layer in cause.where}
    return below if cause.right.startswith(HANDED_DOWN) else set(cause.where)


@pytest.mark.parametrize("part", first(1, range(PARTS)))
def test_a_layer_that_is_right_is_not_blamed(part):
    judged = 0
    for k in range(part * CASES // PARTS, (part + 1) * CASES // PARTS):
        rng = np.random.default_rng([13, k])
        of = drawn_network(rng)
        found, wrong = spoilt(of, rng)
        diagnosis = why(of, found)
        causes = [cause for answer in diagnosis.answers for cause in answer.causes]
        named = set().union(*(blamed(cause, of) for cause in causes)) if causes else set(diagnosis.layers)
        assert named <= wrong, (k, wrong, kinds(diagnosis), [cause.sentence for cause in causes])
        judged += bool(diagnosis.layers)
    assert judged > 0.8 * CASES / PARTS


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("by", [-1.0, 1 / 11, 11.0, 2.0, 11 / 32, 11 / 10, 0.37])
def test_weight_and_bias_of_one_layer_are_one_cause(name, by):
    of = NETWORKS[name]
    for layer in of.network.layers:
        found = {k: by * v if k.startswith(f"{layer.name}.") else v for k, v in right(of).items()}
        for answer in why(of, found).answers:
            (cause,) = answer.causes
            assert cause.where == (layer.name,)
