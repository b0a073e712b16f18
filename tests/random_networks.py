"""Random specs and planted mistakes, for the tests and the benchmarks: the tester is tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.network import backprop
from gradcheck_cli.model.problem import Problem

SMOOTH_ACTIVATIONS = tuple(name for name, row in ACTIVATIONS.items() if row.pieces is None)
SMOOTH_LOSSES = tuple(name for name, row in LOSSES.items() if row.pieces is None)

Spec = dict[str, Any]


def random_spec(
    seed: int,
    activations: tuple[str, ...] = tuple(ACTIVATIONS),
    losses: tuple[str, ...] = tuple(LOSSES),
    dtype: str = "float64",
) -> Spec:
    """A network of depth 1 to 4 with any activation and loss, weights and inputs scaled by 1e±3."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 5))
    layers = [
        {"units": int(rng.integers(2, 9)), "activation": str(rng.choice(activations))} for _ in range(depth)
    ]
    loss = str(rng.choice(losses))
    return {
        "network": {
            "inputs": int(rng.integers(2, 9)),
            "layers": layers,
            "loss": {
                "name": loss,
                "reduction": str(rng.choice(["batchmean", "mean", "sum"])),
                "scale": float(rng.choice([0.5, 1.0])),
            },
            "penalty": {"l2": float(rng.choice([0.0, 1e-3])), "l1": float(rng.choice([0.0, 1e-3]))},
        },
        "parameters": {
            "init": "xavier",
            "scale": float(10 ** rng.choice([0, 0, 0, rng.uniform(-3, 3)])),
            "seed": seed,
            "bias": str(rng.choice(["zeros", "same"])),
        },
        "data": {
            "synthetic": str(rng.choice(["normal", "uniform"])),
            "samples": int(rng.integers(1, 17)),
            "scale": float(10 ** rng.choice([0, 0, 0, rng.uniform(-3, 3)])),
            "seed": seed,
        },
        "dtype": dtype,
    }


Gradients = dict[str, np.ndarray]
Plant = Callable[[Problem, Gradients], Mapping[str, np.ndarray]]


def _missing_mean(problem: Problem, right: Gradients) -> Gradients:
    return {name: value * len(problem.x) for name, value in right.items()}


def _missing_activation_derivative(problem: Problem, right: Gradients) -> Gradients:
    """∂a/∂z left out of every layer's δ: as if every activation were the identity, once its a is known."""
    identity = ACTIVATIONS["identity"]
    wrong = dict(right)
    top = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    bare = replace(top, layer=replace(top.layer, activation=identity))
    wrong[top.layer.weight] = right[top.layer.weight] - top.dL_dw + bare.dL_dw
    wrong[top.layer.bias] = right[top.layer.bias] - top.dL_db + bare.dL_db
    return wrong


def _bias_not_summed(problem: Problem, right: Gradients) -> Gradients:
    """The bias gets the δ of the last sample instead of the sum over the batch."""
    top = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    return {**right, top.layer.bias: right[top.layer.bias] - top.dL_db + top.delta[-1]}


def _transposed_product(problem: Problem, right: Gradients) -> Gradients:
    """a⁽ʰ⁾ᵀ δ put into the shape of the weight instead of δᵀ a⁽ʰ⁾."""
    name = problem.network.output.weight
    return {**right, name: right[name].T.reshape(right[name].shape)}


def _sign(problem: Problem, right: Gradients) -> Gradients:
    name = problem.network.output.weight
    return {**right, name: -right[name]}


def _one_entry(problem: Problem, right: Gradients) -> Gradients:
    """The largest entry of the first layer's weight is off by a thousandth."""
    name = problem.network.layers[0].weight
    wrong = right[name].copy()
    wrong.flat[np.abs(wrong).argmax()] *= 1.001
    return {**right, name: wrong}


def _stale_input(problem: Problem, right: Gradients) -> Gradients:
    """The first layer multiplies δ with the batch in another order."""
    factors = list(backprop(problem.network, problem.parameters, problem.x, problem.target))[-1]
    name = factors.layer.weight
    return {**right, name: right[name] - factors.dL_dw + factors.delta.T @ np.roll(factors.dz_dw, 1, axis=0)}


PLANTS: Mapping[str, Plant] = {
    "missing 1/N": _missing_mean,
    "missing activation derivative": _missing_activation_derivative,
    "bias not summed": _bias_not_summed,
    "transposed product": _transposed_product,
    "sign": _sign,
    "one entry": _one_entry,
    "samples out of order": _stale_input,
}


def effect(wrong: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    """The largest relative difference a mistake makes in any tensor, against that tensor's largest entry."""
    return max(
        float(np.abs(wrong[name] - right[name]).max() / max(np.abs(right[name]).max(), 1e-300))
        for name in right
    )
