"""Build small problems from a few words, for tests of the layers below the spec."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec


def spec_of(
    *layers: dict[str, Any] | str | tuple[int, Any],
    inputs: int = 4,
    loss: Any = "mse",
    samples: int = 5,
    seed: int = 0,
    **rest: Any,
) -> Spec:
    """Return a spec with synthetic data and random parameters. A layer may be given as (units, activation).

    The last layer has a few more units if the loss splits the outputs into vectors of equal width.
    """
    written = [
        layer if isinstance(layer, (dict, str)) else {"units": layer[0], "activation": layer[1]}
        for layer in layers
    ]
    if "units" in written[-1]:
        written[-1] = {**written[-1], "units": units_for(loss, written[-1]["units"])}
    penalty = {"penalty": rest.pop("penalty")} if "penalty" in rest else {}
    return Spec.model_validate(
        {
            "network": {"inputs": inputs, "layers": written, "loss": loss, **penalty},
            "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
            "data": {"synthetic": "normal", "samples": samples, "seed": seed},
            **rest,
        }
    )


def units_for(loss: Any, least: int) -> int:
    """Return the smallest number of outputs from `least` up that the loss can split into its vectors."""
    name = loss["name"] if isinstance(loss, dict) else loss
    vectors = max(1, len(LOSSES[name].vectors)) if name in LOSSES else 1
    return -(-least // vectors) * vectors


def problem_of(*layers: Any, **rest: Any) -> Problem:
    return build_problem(spec_of(*layers, **rest))


def right_gradients(problem: Problem) -> dict[str, np.ndarray]:
    return gradients(problem.network, problem.parameters, problem.x, problem.target)


def units_of(objective: NetworkObjective, layer: str, kind: str = "z") -> Any:
    """Return the movable numbers of a layer's z, or of its y if the layer is normalised."""
    (i,) = (i for i, each in enumerate(objective.network.layers) if each.name == layer)
    return objective.units(getattr(objective.network.places[i], kind))
