"""A network in numpy as in a book: with its own names, layout, data and parameters."""

from __future__ import annotations

NETWORK = """
network: {inputs: 3, layers: [{units: 4, activation: tanh}, {units: 4}], loss: mse}
"""

NAMES = "names: {W1: hidden1.weight, b1: hidden1.bias, W2: output.weight, b2: output.bias}"

SPEC = f"{NETWORK}gradients: {{python: net.py:f, {NAMES}, layout: in_out}}\n"

RIGHT = "(1.0 - a**2)"
"""The derivative of the hidden layer's tanh."""

_CODE = """
import numpy as np

data = np.arange(15.0).reshape(5, 3) / 7.0 - 1.0, np.linspace(-1.0, 1.0, 20).reshape(5, 4)

def parameters():
    rng = np.random.default_rng(3)
    shapes = {"W1": (3, 4), "b1": (4,), "W2": (4, 4), "b2": (4,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}

def f(p, x, y):
    a = np.tanh(x @ p["W1"] + p["b1"])
    d = a @ p["W2"] + p["b2"] - y
    delta = 2.0 * d / len(x)
    delta1 = delta @ p["W2"].T * SLOPE
    gradients = {"W1": x.T @ delta1, "b1": delta1.sum(0), "W2": a.T @ delta, "b2": delta.sum(0)}
    return (d**2).sum(axis=1) / len(x), gradients

def many(p, x, y):
    points = [{name: value[k] for name, value in p.items()} for k in range(len(p["b1"]))]
    losses, gradients = zip(*(f(point, x, y) for point in points))
    return np.stack(losses), {name: np.stack([g[name] for g in gradients]) for name in p}
"""


def book(slope: str = RIGHT) -> str:
    """Return the code of the network, with this formula as the derivative of the hidden layer's tanh."""
    return _CODE.replace("SLOPE", slope)
