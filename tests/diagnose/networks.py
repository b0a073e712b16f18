"""Small networks, and their diagnoses. Together they have every part that the tables of mistakes need."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.site import penalty_terms
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.verdict import default_rtol

Gradients = dict[str, np.ndarray]

_PENALTY = {"l2": 1e-2, "l1": 2e-3}


def problem(
    *activations: Any,
    loss: Any = "mse",
    samples: int = 11,
    batch_norm: bool = False,
    penalty: Any = None,
    reduction: str = "batchmean",
    units: int = 5,
    outputs: int = 4,
    seed: int = 3,
) -> Problem:
    loss = {"reduction": reduction, **(loss if isinstance(loss, dict) else {"name": loss})}
    layers = [{"units": units, "activation": a, "batch_norm": batch_norm} for a in activations[:-1]]
    layers.append({"units": outputs, "activation": activations[-1]})
    spec = {
        "network": {"inputs": 6, "layers": layers, "loss": loss, "penalty": penalty or {}},
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": samples, "seed": seed},
    }
    return build_problem(Spec.model_validate(spec))


_WEIGHTED = {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [0.5, 1.5, 1.0, 2.0]}

NETWORKS: dict[str, Problem] = {
    "sigmoid": problem("sigmoid", "sigmoid", "sigmoid", "sigmoid"),
    "tanh, cross-entropy": problem("tanh", "tanh", "identity", loss=_WEIGHTED, penalty=_PENALTY),
    "relu, huber": problem("relu", "leaky_relu", "identity", loss={"name": "huber", "delta": 0.4}),
    "elu, hinge": problem(
        {"name": "elu", "alpha": 1.5}, "gelu", "identity", loss="hinge", penalty={"l2": 1e-2}
    ),
    "softmax": problem("silu", "softplus", "softmax", loss="mse", reduction="mean"),
    "batch norm": problem("tanh", "sigmoid", "identity", loss="bce_with_logits", batch_norm=True),
    "l1": problem("sigmoid", "tanh", loss="l1", reduction="sum"),
}


def _of_images() -> Problem:
    """Return two convolutions with as many channels as rows and columns."""
    layers = [
        {"conv2d": 5, "kernel": 3, "padding": 1, "activation": "tanh"},
        {"conv2d": 3, "kernel": 3, "padding": 1, "stride": 2, "activation": "tanh"},
        "flatten",
        {"units": 2},
    ]
    spec = {
        "network": {"inputs": [2, 5, 5], "layers": layers, "loss": {"name": "mse", "reduction": "batchmean"}},
        "parameters": {"init": "xavier", "seed": 3, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 5, "seed": 3},
    }
    return build_problem(Spec.model_validate(spec))


CONVOLUTIONS: dict[str, Problem] = {"stride 2": _of_images()}
"""Networks of images; only the mistakes of convolutions must be visible in them."""


def right(of: Problem) -> Gradients:
    return gradients(of.network, of.parameters, of.x, of.target)


def compared(of: Problem, found: Gradients, dtype: Any = np.float64) -> list[Comparison]:
    """Compare the gradients with nearly exact numbers."""
    exact = right(of)
    at = (of.network, of.parameters, of.x, of.target, Arithmetic.of(np.dtype(dtype), held=of.dtype))
    bounds = gradient_rounding(*at)
    eps = float(np.finfo(dtype).eps)
    return [
        compare(
            name,
            value,
            Estimate(exact[name], 1e-12 * np.abs(exact[name])),
            bounds[name],
            default_rtol(np.dtype(dtype)),
            eps,
        )
        for name, value in found.items()
        if name in exact
    ]


@np.errstate(all="ignore")
def why(of: Problem, found: Gradients, **options: Any) -> Diagnosis:
    return readable(diagnose(compared(of, found), of, **options))


_GAP = re.compile(
    r"\s{2}|\s[.,;]|\b(of|and)[.,;]|\b(of|and) (is|are|has)\b|\b(samples|units|rows|columns) alone|[{}]"
)
"""Matches a gap in a sentence: an empty list of numbers or names, or a brace that is left over."""


def readable(diagnosis: Diagnosis) -> Diagnosis:
    """Return the diagnosis, after checking that each of its sentences is complete."""
    for text in (*(c.sentence for a in diagnosis.answers for c in a.causes), *diagnosis.observations):
        assert not _GAP.search(text), text
    return diagnosis


def kinds(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    return [tuple(cause.kind for cause in answer.causes) for answer in diagnosis.answers]


def penalty(of: Problem, name: str) -> np.ndarray:
    """Return the gradient of the penalties on one parameter."""
    return sum(penalty_terms(of, name).values(), np.zeros(of.network.shapes[name]))


def sentence_of(of: Problem, found: Gradients, **options: bool) -> str:
    """Return the sentence of the best answer, which must have a single cause."""
    (cause,) = why(of, found, **options).answers[0].causes
    return cause.sentence


def noise(value: np.ndarray) -> np.ndarray:
    """Return a gradient with noise of a tenth of each entry."""
    return value * (1.0 + 0.1 * np.random.default_rng(0).normal(size=value.shape))
