"""Single layers with an upstream gradient, and the diagnosis of gradients that are written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diagnose.networks import readable

from gradcheck_cli.comparison import compare
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Gradients = Mapping[str, Array]


def alone(layers: Sequence[Any], *inputs: int, seed: int = 7, **data: Any) -> Problem:
    """Return layers whose output has a random upstream gradient y: L = Σ y out."""
    spec = {
        "network": {"inputs": list(inputs), "layers": layers, "loss": {"name": "dot", "reduction": "sum"}},
        "parameters": {"init": "normal", "scale": 1.0, "seed": seed, "bias": "same"},
        "data": data or {"synthetic": "normal", "samples": 3, "seed": seed},
    }
    return build_problem(Spec.model_validate(spec))


def exact(of: Problem) -> Gradients:
    """Return the right gradients, including ∂L/∂x."""
    whole = of.with_shifts({INPUTS: INPUT})
    return gradients(whole.network, whole.parameters, whole.x, whole.target)


def why_alone(of: Problem, found: Gradients, **options: Any) -> Diagnosis:
    right = exact(of)
    comparisons = [
        compare(
            name,
            value,
            Estimate(right[name], 1e-12 * np.abs(right[name])),
            np.full(value.shape, 1e-14 * np.abs(right[name]).max()),
            1e-7,
        )
        for name, value in found.items()
    ]
    return readable(diagnose(comparisons, of, **options))
