"""The parts of small valid specs."""

from __future__ import annotations

NETWORK = {"inputs": 2, "layers": [{"units": 1}], "loss": "mse"}
DATA = {"synthetic": "normal"}


def changed(path: str, value):
    """Return the parts of a good spec with another value at a path like network.layers.0.units."""
    parts = {
        "network": {
            "inputs": 2,
            "layers": [{"units": 2, "activation": {"name": "elu", "alpha": 1.0}}],
            "loss": {"name": "cross_entropy", "scale": 1.0, "label_smoothing": 0.1, "weight": [1, 1]},
            "penalty": {"l2": 0.1, "biases": True},
        },
        "parameters": {"init": "normal", "scale": 1.0, "seed": 0, "bias": "same"},
        "data": {"x": [[1, 2], [3, 4]], "y": [0, 1], "rescale": {"from": [0, 1], "to": [0, 2]}},
        "check": {"parameters": ["*"], "scheme": "central", "step": 0.1, "rtol": 0.1, "seed": 0},
        "dtype": "float64",
    }
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    container = parts
    for step in parents:
        container = container[step]
    container[last] = value
    return parts
