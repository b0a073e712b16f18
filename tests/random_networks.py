"""Random specs for tests and benchmarks: right gradients of all kinds must never be called wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from build import units_for

from gradcheck_cli.gradients.backprop import read
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.functions import softmax
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.spec.spec import Spec

SMOOTH_ACTIVATIONS = tuple(name for name, row in ACTIVATIONS.items() if row.pieces is None)
SMOOTH_LOSSES = tuple(name for name, row in LOSSES.items() if row.pieces is None)
KINKED_ACTIVATIONS = tuple(name for name, row in ACTIVATIONS.items() if row.pieces)
KINKED_LOSSES = tuple(name for name, row in LOSSES.items() if row.pieces)

Raw = dict[str, Any]


def random_spec(
    seed: int,
    activations: tuple[str, ...] = tuple(ACTIVATIONS),
    losses: tuple[str, ...] = tuple(LOSSES),
    dtype: str = "float64",
    depth: tuple[int, int] = (1, 4),
    scale: tuple[float, float] | None = (-3, 3),
) -> Raw:
    """Draw a network with any activation and loss; one in four scales weights or inputs by 10 ** scale."""
    rng = np.random.default_rng(seed)
    layers = [
        {"units": int(rng.integers(2, 9)), "activation": str(rng.choice(activations))}
        for _ in range(int(rng.integers(depth[0], depth[1] + 1)))
    ]
    loss = str(rng.choice(losses))
    layers[-1]["units"] = units_for(loss, layers[-1]["units"])

    def size() -> float:
        return float(10 ** rng.choice([0, 0, 0, rng.uniform(*scale)])) if scale else 1.0

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
            "scale": size(),
            "seed": seed,
            "bias": str(rng.choice(["zeros", "same"])),
        },
        "data": {
            "synthetic": str(rng.choice(["normal", "uniform"])),
            "samples": int(rng.integers(1, 17)),
            "scale": size(),
            "seed": seed,
        },
        "dtype": dtype,
    }


def _plain(seed: int) -> Raw:
    """Draw a smooth network of ordinary size."""
    return random_spec(seed, SMOOTH_ACTIVATIONS, SMOOTH_LOSSES, scale=None)


def _kinked(seed: int) -> Raw:
    """Draw kinks in every layer and in the loss. In one of three networks, some samples are on the kinks."""
    raw = random_spec(seed, KINKED_ACTIVATIONS, KINKED_LOSSES, scale=(-1, 1))
    if seed % 3 == 0:
        rng = np.random.default_rng(seed)
        inputs, outputs = raw["network"]["inputs"], raw["network"]["layers"][-1]["units"]
        x = rng.integers(-2, 3, size=(raw["data"]["samples"], inputs)).astype(float)
        x[0] = 0.0
        row = LOSSES[raw["network"]["loss"]["name"]]
        classes = 2 if row.target == "pairs" else outputs
        size = (len(x), outputs // 2) if row.target == "first vector" else len(x)
        raw["data"] = {"x": x.tolist(), "y": rng.integers(classes, size=size).tolist()}
        raw["parameters"]["bias"] = "zeros"
    return raw


def _batch_normed(seed: int) -> Raw:
    raw = random_spec(seed, scale=(-1, 1))
    rng = np.random.default_rng(seed)
    for layer in raw["network"]["layers"][:: int(rng.integers(1, 3))]:
        layer["batch_norm"] = True
    raw["data"]["samples"] = max(3, raw["data"]["samples"])
    return raw


def _float32(seed: int) -> Raw:
    return random_spec(seed, dtype="float32", scale=(-1, 1))


def _badly_scaled(seed: int) -> Raw:
    """Scale the inputs by 1e±6, or the weights by 1e±3."""
    raw = random_spec(seed, scale=None)
    rng = np.random.default_rng(seed)
    if seed % 2:
        raw["data"]["scale"] = float(10 ** rng.uniform(-6, 6))
    else:
        raw["parameters"]["scale"] = float(10 ** rng.uniform(-3, 3))
    return raw


def _saturated(seed: int) -> Raw:
    """Draw pre-activations of ten and more, where the slope of every layer is small."""
    raw = random_spec(seed, ("sigmoid", "tanh", "softmax", "softplus", "elu"), scale=None)
    raw["parameters"]["scale"] = float(np.random.default_rng(seed).uniform(3, 10))
    return raw


def _at_an_optimum(seed: int) -> Raw:
    """Set the targets close to the network's outputs, at a distance of 1e-3 to 1e-9."""
    losses = ("mse", "huber", "cross_entropy", "bce_with_logits")
    raw = random_spec(seed, SMOOTH_ACTIVATIONS, losses, scale=None)
    raw["network"]["penalty"] = {}
    problem = problem_or_none(raw)
    assert problem is not None
    answer, rng = problem.objective.activity.output, np.random.default_rng(seed)
    if problem.network.loss.target == "distribution":
        answer = softmax(answer)
    elif raw["network"]["loss"]["name"] == "bce_with_logits":
        answer = ACTIVATIONS["sigmoid"].value(answer)
    off = 10 ** rng.uniform(-9, -3) * rng.normal(size=answer.shape)
    y = answer * (1.0 + np.clip(off, -1, 1))
    raw["data"] = {"x": problem.x.tolist(), "y": y.tolist()}
    return raw


def _deep(seed: int) -> Raw:
    return random_spec(seed, depth=(6, 12), scale=None)


def random_convolutions(seed: int, dtype: str = "float64") -> Raw:
    """Draw one or two convolutions with random options below a dense layer."""
    rng = np.random.default_rng(seed)
    channels = 2 * int(rng.integers(1, 3))
    layers = [_convolution(rng) for _ in range(int(rng.integers(1, 3)))]
    inputs = [channels, int(rng.integers(5, 8)), int(rng.integers(5, 8))]
    return {
        "network": {
            "inputs": inputs,
            "layers": [*_fitting(layers, inputs[1:]), "flatten", {"units": int(rng.integers(2, 5))}],
            "loss": str(rng.choice(["mse", "cross_entropy"])),
        },
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": int(rng.integers(3, 7)), "seed": seed},
        "dtype": dtype,
    }


def _convolution(rng: np.random.Generator) -> Raw:
    def pair(low: int, high: int) -> list[int]:
        return [int(number) for number in rng.integers(low, high, size=2)]

    return {
        "conv2d": 2 * int(rng.integers(1, 3)),
        "kernel": pair(1, 4),
        "stride": pair(1, 3),
        "padding": pair(1, 3),
        "dilation": pair(1, 3),
        "groups": int(rng.integers(1, 3)),
        "activation": str(rng.choice(["relu", "tanh"])),
        "batch_norm": bool(rng.random() < 0.4),
    }


def _fitting(layers: Sequence[Raw], size: Sequence[int]) -> Iterator[Raw]:
    """Yield the convolutions for images of this size, without dilation if the dilated kernel would not fit.

    A kernel of size 3 or less, with a padding of at least 1 and without dilation, fits any image.
    """
    for layer in layers:
        axes = list(zip(layer["kernel"], layer["dilation"], layer["padding"], layer["stride"], strict=True))
        spare = [s + 2 * p - d * (k - 1) - 1 for (k, d, p, _), s in zip(axes, size, strict=True)]
        dilation = [d if room >= 0 else 1 for (_, d, _, _), room in zip(axes, spare, strict=True)]
        yield {**layer, "dilation": dilation}
        size = [
            (s + 2 * p - d * (k - 1) - 1) // stride + 1
            for (k, _, p, stride), d, s in zip(axes, dilation, size, strict=True)
        ]


FAMILIES: Mapping[str, Callable[[int], Raw]] = {
    "plain": _plain,
    "kinked": _kinked,
    "batch-normed": _batch_normed,
    "float32": _float32,
    "badly scaled": _badly_scaled,
    "saturated": _saturated,
    "at an optimum": _at_an_optimum,
    "deep": _deep,
}


def problem_or_none(raw: Raw) -> Problem | None:
    """Return the problem, or None if the random network has no finite loss and gradient in its type."""
    from gradcheck_cli import InputError

    try:
        problem = build_problem(Spec.model_validate(raw))
        read(Backprop(), problem)
        return problem
    except InputError as error:
        if "overflow" in str(error) or "finite" in str(error):
            return None
        raise
