"""Count the calls of the user's function: a wrong gradient costs no more than a right one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.testing import WrongGradientError


class Net:
    """A network of one hidden layer that counts its calls; change: alters its gradients."""

    def __init__(self, activation, change=lambda gradients: gradients):
        rng = np.random.default_rng(0)
        self.activation, self.change, self.calls = activation, change, 0
        self.x, self.y = rng.normal(size=(12, 8)), rng.normal(size=(12, 6))
        self.parameters = {
            "w1": rng.normal(size=(8, 20)) / 3, "b1": rng.normal(size=20),
            "w2": rng.normal(size=(20, 6)) / 4, "b2": rng.normal(size=6),
        }  # fmt: skip

    def __call__(self, p):
        self.calls += 1
        z = self.x @ p["w1"] + p["b1"]
        a, slope = self.activation(z)
        off = a @ p["w2"] + p["b2"] - self.y
        d2 = 2 * off / 12
        d1 = (d2 @ p["w2"].T) * slope
        gradients = {"w1": self.x.T @ d1, "b1": d1.sum(axis=0), "w2": a.T @ d2, "b2": d2.sum(axis=0)}
        return (off**2).sum() / 12, self.change(gradients)


def tanh(z):
    return np.tanh(z), 1 - np.tanh(z) ** 2


def relu(z):
    return np.maximum(z, 0), (z > 0).astype(float)


def scaled(factor, *names):
    return lambda g: {name: factor * v if not names or name in names else v for name, v in g.items()}


MISTAKES = {
    "all ten times": scaled(10.0),
    "all negated": scaled(-1.0),
    "one tensor doubled": scaled(2.0, "w1"),
    "a thousandth more": scaled(1.001),
    "weights reversed": lambda g: g | {"w1": g["w1"][::-1]},
}


@cache
def calls(activation, change=lambda gradients: gradients, **how):
    net = Net(activation, change)
    try:
        check_gradients(net, net.parameters, **how)
    except WrongGradientError:
        return net.calls
    assert change(net.parameters) is net.parameters  # nothing was planted
    return net.calls


@pytest.mark.parametrize("activation", [tanh, relu])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_gradient_takes_at_most_half_again_as_many_calls(mistake, activation):
    assert calls(activation, MISTAKES[mistake]) <= 1.5 * calls(activation)


@pytest.mark.parametrize("mistake", ["all ten times", "all negated"])
def test_a_wholly_wrong_tensor_is_sampled_and_not_bisected(mistake):
    """Check about 16 entries of each tensor on top of the directions, regardless of its size."""
    assert calls(tanh, MISTAKES[mistake], fast=True) <= calls(tanh, fast=True) + 4 * 16 * 8
