"""Mistakes in numpy normalisations of any kind, and in skip connections around them, are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.networks import kinds

from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
Found = dict[str, Array]

EPS = 0.3  # large enough to show
GROUPS = 2

GROUP = alone([{"group_norm": GROUPS, "eps": EPS}], 4, 5)
INSTANCE = alone([{"instance_norm": True, "eps": EPS, "affine": True}], 3, 5)
LAYER = alone([{"layer_norm": True, "eps": EPS}], 4, 5)


def grouped(x: Array, groups: int) -> Array:
    return x.reshape(len(x), groups, -1)


def group_norm(
    of: Problem,
    groups: int,
    backward: Callable[..., Array] = lambda g, h, s, mean: (g - mean(g) - h * mean(g * h)) / s,
    takes: Callable[[Array, int], Array] = lambda c, groups: c // (4 // groups),
    name: str = "group_norm1",
) -> Found:
    """Return the gradients of group normalisation of samples (channels, length).

    takes: the group whose statistics γ's gradient takes, by the channel.
    """
    gamma, up = of.parameters[f"{name}.weight"][:, None], of.target
    x = grouped(of.x, groups)
    centred = x - x.mean(axis=2, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=2, keepdims=True) + EPS)
    hat = centred / s

    def mean(array: Array) -> Array:
        return array.mean(axis=2, keepdims=True)

    dx = backward(grouped(up * gamma, groups), hat, s, mean).reshape(of.x.shape)
    group = takes(np.arange(of.x.shape[1]), groups) if takes else np.arange(of.x.shape[1])
    own = (of.x - x.mean(axis=2)[:, group, None]) / s[:, group]
    found = {f"{name}.weight": (up * own).sum(axis=(0, 2)), f"{name}.bias": up.sum(axis=(0, 2))}
    return {**found, "input": dx}


def instance_norm(of: Problem, **wrong: Any) -> Found:
    return group_norm(of, 3, takes=lambda c, groups: c, name="instance_norm1", **wrong)


def layer_norm(of: Problem, axes: tuple[int, ...] = (2,), of_gamma: tuple[int, ...] = (0, 1)) -> Found:
    """Return the gradients of layer normalisation; the means of the backward pass are over these axes."""
    gamma, up, x = of.parameters["layer_norm1.weight"], of.target, of.x
    centred = x - x.mean(axis=2, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=2, keepdims=True) + EPS)
    hat, g = centred / s, up * gamma

    def mean(array: Array) -> Array:
        return array.mean(axis=axes, keepdims=True)

    dx = (g - mean(g) - hat * mean(g * hat)) / s
    own = {"layer_norm1.weight": (up * hat).sum(axis=of_gamma), "layer_norm1.bias": up.sum(axis=(0, 1))}
    return {**own, "input": dx}


@pytest.mark.parametrize(
    ("of", "found"),
    [(GROUP, group_norm(GROUP, GROUPS)), (INSTANCE, instance_norm(INSTANCE)), (LAYER, layer_norm(LAYER))],
    ids=["group", "instance", "layer"],
)
def test_the_backward_pass_by_hand_is_right(of, found):
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, exact(of)[name], rtol=1e-9, atol=1e-12)


def over_every_other_channel(g: Array, h: Array, s: Array, _: Any) -> Array:
    def mean(array: Array) -> Array:
        split = array.reshape(3, 4 // GROUPS, GROUPS, 5)
        means = split.mean(axis=(1, 3), keepdims=True) + 0 * split
        return means.reshape(array.shape)

    return (g - mean(g) - h * mean(g * h)) / s


NORMALISED: tuple[tuple[str, Callable[..., Array]], ...] = (
    ("mean term missing", lambda g, h, s, mean: (g - h * mean(g * h)) / s),
    ("variance term missing", lambda g, h, s, mean: (g - mean(g)) / s),
    ("mean subtracted twice", lambda g, h, s, mean: (g - 2 * mean(g) - h * mean(g * h)) / s),
    ("statistics held constant", lambda g, h, s, mean: g / s),
    (
        "mean over too few",
        lambda g, h, s, mean: (g - mean(g) * g.shape[2] / (g.shape[2] - 1) - h * mean(g * h)) / s,
    ),
    (
        "sums in place of means",
        lambda g, h, s, mean: (g - mean(g) - h * mean(g * h) * g.shape[2]) / s,
    ),
    (
        "eps forgotten",
        lambda g, h, s, mean: (g - mean(g) - h * mean(g * h)) / np.sqrt(s**2 - EPS),
    ),
)


@pytest.mark.parametrize(("kind", "backward"), NORMALISED, ids=[kind for kind, _ in NORMALISED])
@pytest.mark.parametrize("of", [GROUP, INSTANCE], ids=["group", "instance"])
def test_a_mistake_in_a_normalisation_of_groups_is_named_first(kind, backward, of):
    wrong = group_norm(of, GROUPS, backward=backward) if of is GROUP else instance_norm(of, backward=backward)
    assert kinds(why_alone(of, wrong))[0] == (f"group norm: {kind}",)


def test_the_group_of_another_channel_is_named():
    wrong = group_norm(GROUP, GROUPS, takes=lambda c, groups: c % groups)
    assert kinds(why_alone(GROUP, wrong))[0] == ("group norm: statistics of another group",)
    wrong = group_norm(GROUP, GROUPS, backward=over_every_other_channel)
    assert kinds(why_alone(GROUP, wrong))[0] == ("group norm: statistics of another group",)


@pytest.mark.parametrize("axes", [(0,), (1,), (1, 2), (0, 1, 2)])
def test_a_layer_normalisation_over_the_wrong_axis_is_named(axes):
    assert kinds(why_alone(LAYER, layer_norm(LAYER, axes)))[0] == ("layer norm: over the wrong axis",)


def layer_norm_of_vectors(of: Problem, count: int) -> Found:
    """Return the gradients of a layer normalisation that splits x into this many vectors."""
    gamma, units = of.parameters["layer_norm1.weight"], of.x.shape[2]
    means, s = (each.reshape(-1, 1)[:count] for each in (of.x.mean(axis=2), np.sqrt(of.x.var(axis=2) + EPS)))
    x, up = of.x.reshape(count, -1), of.target.reshape(count, -1)
    hat, g = (x - means) / s, np.tile(gamma, x.shape[1] // units) * up
    along = (g * hat).mean(axis=1, keepdims=True)
    own = {"weight": (up * hat).sum(axis=0)[:units], "bias": up.sum(axis=0)[:units]}
    dx = ((g - g.mean(axis=1, keepdims=True) - hat * along) / s).reshape(of.x.shape)
    return {**{f"layer_norm1.{name}": value for name, value in own.items()}, "input": dx}


def test_a_layer_normalisation_that_does_not_split_its_samples_is_named():
    samples, vectors, _ = LAYER.x.shape
    for name, gradient in layer_norm_of_vectors(LAYER, samples * vectors).items():
        np.testing.assert_allclose(gradient, exact(LAYER)[name], rtol=1e-9, atol=1e-12)
    wrong = layer_norm_of_vectors(LAYER, samples)
    assert kinds(why_alone(LAYER, wrong)) == [("layer norm: samples not split",)]
    found = why_alone(LAYER, {**exact(LAYER), "input": wrong["input"]})
    assert kinds(found) == [("layer norm: samples not split",)]
    assert "∂L/∂x of layer normalisation" in found.answers[0].causes[0].sentence


# --- skip connections --------------------------------------------------------------------------------------

WIDTH = 4
PRE = alone([{"units": WIDTH, "name": "output"}, {"residual": ["layer_norm", {"units": WIDTH}]}], WIDTH)
POST = alone([{"residual": [{"units": WIDTH, "name": "output"}]}, "layer_norm"], WIDTH)


def normalised(x: Array) -> tuple[Array, Array]:
    s = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=1, keepdims=True)) / s, s


def back(g: Array, hat: Array, s: Array) -> Array:
    return (g - g.mean(axis=1, keepdims=True) - hat * (g * hat).mean(axis=1, keepdims=True)) / s


def pre_norm(of: Problem, above: bool = False) -> Found:
    """Return the gradients of z + f(norm(z)); `above` adds the skip's gradient above the norm."""
    p, up = of.parameters, of.target
    inner = next(name.removesuffix(".weight") for name in p if name.startswith("hidden"))
    z = of.x @ p["output.weight"].T + p["output.bias"]
    hat, s = normalised(z)
    y = p["layer_norm1.weight"] * hat + p["layer_norm1.bias"]
    of_y = up @ p[f"{inner}.weight"] + (up if above else 0)
    dz = back(of_y * p["layer_norm1.weight"], hat, s) + (0 if above else up)
    return {
        f"{inner}.weight": up.T @ y,
        f"{inner}.bias": up.sum(axis=0),
        "layer_norm1.weight": (of_y * hat).sum(axis=0),
        "layer_norm1.bias": of_y.sum(axis=0),
        "output.weight": dz.T @ of.x,
        "output.bias": dz.sum(axis=0),
        "input": dz @ p["output.weight"],
    }


def post_norm(of: Problem, past: bool = False) -> Found:
    """Return the gradients of norm(x + x wᵀ + b); `past` hands the gradient above the norm to the skip."""
    p, up = of.parameters, of.target
    total = of.x + of.x @ p["output.weight"].T + p["output.bias"]
    hat, s = normalised(total)
    dz = back(up * p["layer_norm1.weight"], hat, s)
    return {
        "output.weight": dz.T @ of.x,
        "output.bias": dz.sum(axis=0),
        "layer_norm1.weight": (up * hat).sum(axis=0),
        "layer_norm1.bias": up.sum(axis=0),
        "input": dz @ p["output.weight"] + (up if past else dz),
    }


def test_a_skip_connection_on_the_wrong_side_of_the_norm_is_named():
    for of, right, wrong in (
        (PRE, pre_norm(PRE), pre_norm(PRE, above=True)),
        (POST, post_norm(POST), post_norm(POST, past=True)),
    ):
        for name, gradient in right.items():
            np.testing.assert_allclose(gradient, exact(of)[name], rtol=1e-9, atol=1e-12)
        assert kinds(why_alone(of, wrong))[0] == ("skip connection on the wrong side of the norm",)
