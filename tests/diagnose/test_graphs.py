"""Mistakes in networks that are not chains of dense layers are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from diagnose.graphs import residual_network, swept, why_drawn
from diagnose.networks import compared, kinds, right, why
from random_networks import random_convolutions
from shares import first

from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.steps.leaving_loops import ENDS_EARLY
from gradcheck_cli.diagnose.wrong_tensors import ZERO
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray
Part = Callable[..., Array]

# --- a network with a convolution in groups, by hand -------------------------------------------------------

EPS = 0.05


def grouped_network(seed: int = 5, samples: int = 4) -> Problem:
    """Two 3 × 3 convolutions with padding 1; the second has groups, stride 2 and batch normalisation."""
    layers = [
        {"conv2d": 4, "kernel": 3, "padding": 1, "activation": "tanh"},
        {
            "conv2d": 6,
            "kernel": 3,
            "padding": 1,
            "stride": 2,
            "groups": 2,
            "activation": "sigmoid",
            "batch_norm": {"eps": EPS},
        },
        "flatten",
        {"units": 3},
    ]
    loss = {"name": "mse", "reduction": "batchmean"}
    spec = {
        "network": {"inputs": [2, 5, 5], "layers": layers, "loss": loss},
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": samples, "seed": seed},
    }
    return build_problem(Spec.model_validate(spec))


def padded(x: Array) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))


def windows(x: Array, z_shape: tuple[int, ...], stride: int) -> Any:
    """Yield the place of each number of z, with the slices of its window."""
    for n, o, i, j in np.ndindex(*z_shape):
        yield (n, o, i, j), (slice(stride * i, stride * i + 3), slice(stride * j, stride * j + 3))


def channels(o: int, outputs: int, w: Array, groups: int) -> slice:
    """Return the input channels that output o sees."""
    group = o * groups // outputs
    return slice(group * w.shape[1], (group + 1) * w.shape[1])


def convolve(x: Array, w: Array, b: Array, stride: int, groups: int) -> Array:
    size = (x.shape[2] - 1) // stride + 1
    z = np.empty((len(x), len(w), size, size))
    for (n, o, i, j), at in windows(x, z.shape, stride):
        seen = padded(x)[n, channels(o, len(w), w, groups)][:, *at]
        z[n, o, i, j] = (seen * w[o]).sum() + b[o]
    return z


def spread(delta: Array, w: Array, x: Array, stride: int, groups: int) -> Array:
    total = np.zeros_like(padded(x))
    for (n, o, i, j), at in windows(x, delta.shape, stride):
        total[n, channels(o, len(w), w, groups)][:, *at] += delta[n, o, i, j] * w[o]
    return total


def below(delta: Array, w: Array, x: Array, stride: int, groups: int) -> Array:
    return spread(delta, w, x, stride, groups)[:, :, 1:-1, 1:-1]


def overwritten(delta: Array, w: Array, x: Array, stride: int, groups: int) -> Array:
    total = np.zeros_like(padded(x))
    for n, i, j in np.ndindex(len(delta), *delta.shape[2:]):
        one = np.zeros_like(delta)
        one[n, :, i, j] = delta[n, :, i, j]
        here = slice(stride * i, stride * i + 3), slice(stride * j, stride * j + 3)
        total[n][:, *here] = spread(one, w, x, stride, groups)[n][:, *here]
    return total[:, :, 1:-1, 1:-1]


def weight(delta: Array, w: Array, x: Array, stride: int, groups: int) -> Array:
    total = np.zeros_like(w)
    for (n, o, i, j), at in windows(x, delta.shape, stride):
        total[o] += delta[n, o, i, j] * padded(x)[n, channels(o, len(w), w, groups)][:, *at]
    return total


def norm(g: Array, z_hat: Array, deviation: Array, mean: Part) -> Array:
    return (g - mean(g) - z_hat * mean(g * z_hat)) / deviation


RIGHT: Mapping[str, Part] = {
    "loss": lambda a, y: 2 * (a - y) / len(y),
    "output.bias": lambda delta: delta.sum(axis=0),
    "output.below": lambda delta, w: delta @ w,
    "flatten": lambda delta, shape: delta.reshape(shape),
    "sigmoid": lambda dL_da, a: dL_da * a * (1 - a),
    "gamma": lambda dL_dy, z_hat, z: (dL_dy * z_hat).sum(axis=(0, 2, 3)),
    "scale": lambda dL_dy, gamma: dL_dy * gamma,
    "norm": norm,
    "bias": lambda delta, dL_dy: delta.sum(axis=(0, 2, 3)),
    "weight": weight,
    "below": below,
    "tanh": lambda dL_da, a, z: dL_da * (1 - a * a),
}


def backprop(of: Problem, **wrong: Part) -> dict[str, Array]:
    """Return the gradients with these parts replaced."""
    part, p = {**RIGHT, **wrong}, of.parameters

    def mean(array: Array) -> Array:
        return array.mean(axis=(0, 2, 3), keepdims=True)

    z1 = convolve(of.x, p["hidden1.weight"], p["hidden1.bias"], 1, 1)
    a1, w2 = np.tanh(z1), p["hidden2.weight"]
    z2 = convolve(a1, w2, p["hidden2.bias"], 2, 2)
    gamma = p["hidden2.gamma"].reshape(1, -1, 1, 1)
    deviation = np.sqrt(mean((z2 - mean(z2)) ** 2) + EPS)
    z_hat = (z2 - mean(z2)) / deviation
    a2 = 1 / (1 + np.exp(-(gamma * z_hat + p["hidden2.beta"].reshape(1, -1, 1, 1))))
    flat = a2.reshape(len(of.x), -1)
    delta = part["loss"](flat @ p["output.weight"].T + p["output.bias"], of.target)
    found = {"output.weight": delta.T @ flat, "output.bias": part["output.bias"](delta)}
    dL_dy = part["sigmoid"](part["flatten"](part["output.below"](delta, p["output.weight"]), a2.shape), a2)
    found["hidden2.gamma"] = part["gamma"](dL_dy, z_hat, z2)
    found["hidden2.beta"] = dL_dy.sum(axis=(0, 2, 3))
    delta = part["norm"](part["scale"](dL_dy, gamma), z_hat, deviation, mean)
    found["hidden2.weight"] = part["weight"](delta, w2, a1, 2, 2)
    found["hidden2.bias"] = part["bias"](delta, dL_dy)
    delta = part["tanh"](part["below"](delta, w2, a1, 2, 2), a1, z1)
    found["hidden1.weight"] = weight(delta, p["hidden1.weight"], of.x, 1, 1)
    found["hidden1.bias"] = delta.sum(axis=(0, 2, 3))
    return {name: found[name] for name in of.network.shapes}


GROUPED = grouped_network()

MISTAKES: tuple[tuple[str, str, dict[str, Part]], ...] = (
    ("missing 1/N", "output", {"loss": lambda a, y: 2 * (a - y)}),
    ("factor 1/2", "output", {"loss": lambda a, y: (a - y) / len(y)}),
    ("sign", "output", {"loss": lambda a, y: 2 * (y - a) / len(y)}),
    ("bias averaged", "output", {"output.bias": lambda delta: delta.mean(axis=0)}),
    ("bias not summed", "output", {"output.bias": lambda delta: delta[-1]}),
    ("absolute weights on the way down", "output", {"output.below": lambda d, w: d @ np.abs(w)}),
    (
        "flattened in another order",
        "flatten1",
        {"flatten": lambda d, shape: d.reshape(shape[0], 3, 3, 6).transpose(0, 3, 1, 2)},
    ),
    ("activation derivative missing", "hidden2", {"sigmoid": lambda dL_da, a: dL_da}),
    ("activation formula", "hidden2", {"sigmoid": lambda dL_da, a: dL_da * a}),
    (
        "batch norm: gamma gradient from z",
        "hidden2",
        {"gamma": lambda g, z_hat, z: (g * z).sum(axis=(0, 2, 3))},
    ),
    ("batch norm: gamma forgotten", "hidden2", {"scale": lambda dL_dy, gamma: dL_dy}),
    ("batch norm: statistics held constant", "hidden2", {"norm": lambda g, z_hat, s, mean: g / s}),
    ("batch norm: mean term missing", "hidden2", {"norm": lambda g, h, s, mean: (g - h * mean(g * h)) / s}),
    ("batch norm: variance term missing", "hidden2", {"norm": lambda g, h, s, mean: (g - mean(g)) / s}),
    (
        "batch norm: eps forgotten",
        "hidden2",
        {"norm": lambda g, h, s, mean: norm(g, h, s, mean) * s / np.sqrt(s**2 - EPS)},
    ),
    (
        "batch norm: bias gradient from above the norm",
        "hidden2",
        {"bias": lambda d, dL_dy: dL_dy.sum(axis=(0, 2, 3))},
    ),
    (
        "kernel's gradient rotated",
        "hidden2",
        {"weight": lambda *at: weight(*at)[:, :, ::-1, ::-1]},
    ),
    (
        "groups confused",
        "hidden2",
        {"weight": lambda d, w, x, *at: weight(d, w, x[:, [2, 3, 0, 1]], *at)},
    ),
    (
        "groups confused",
        "hidden2",
        {"weight": lambda d, w, x, *at: weight(d, w, x[:, [0, 1, 0, 1]], *at)},
    ),
    (
        "groups confused",
        "hidden2",
        {"weight": lambda d, w, x, *at: weight(d, w, x[:, [0, 2, 1, 3]], *at)},
    ),
    ("groups confused", "hidden2", {"below": lambda d, w, *at: below(d, w[[3, 4, 5, 0, 1, 2]], *at)}),
    ("groups confused", "hidden2", {"below": lambda *at: below(*at)[:, [2, 3, 0, 1]]}),
    ("kernel not rotated", "hidden2", {"below": lambda d, w, *at: below(d, w[:, :, ::-1, ::-1], *at)}),
    ("padding not cut off", "hidden2", {"below": lambda *at: spread(*at)[:, :, :-2, :-2]}),
    ("stride forgotten on the way down", "hidden2", {"below": lambda d, w, x, _, g: below(d, w, x, 1, g)}),
    ("windows overwritten", "hidden2", {"below": overwritten}),
    ("activation derivative missing", "hidden1", {"tanh": lambda dL_da, a, z: dL_da}),
    ("activation derivative at a", "hidden1", {"tanh": lambda dL_da, a, z: dL_da * (1 - np.tanh(a) ** 2)}),
)


def test_the_backprop_by_hand_is_right():
    for name, gradient in backprop(GROUPED).items():
        np.testing.assert_allclose(gradient, right(GROUPED)[name], rtol=1e-9, atol=1e-13)


@pytest.fixture(scope="module", params=MISTAKES, ids=lambda mistake: mistake[0])
def mistaken(request):
    """A mistake, its layer, the gradients, and their diagnosis, which several tests share."""
    kind, layer, wrong = request.param
    gradients = backprop(GROUPED, **wrong)
    return kind, layer, gradients, why(GROUPED, gradients)


def test_a_mistake_next_to_a_convolution_in_groups_is_named_first(mistaken):
    kind, layer, _, found = mistaken
    names = {cause.kind for cause in found.answers[0].causes} | {c.family for c in found.answers[0].causes}
    assert kind in names
    assert len(found.answers[0].causes) == 1
    assert found.answers[0].causes[0].where == (layer,)
    assert found.layers == (layer,)


# --- branches and shared weights ---------------------------------------------------------------------------


Lost = frozenset[str]


def residual_backprop(
    of: Problem, lost: Lost = frozenset(), slope: Part = lambda a: 1 - a * a, scale: float = 1.0
) -> dict[str, Array]:
    """Return the gradients without these shares: "skip", "branch", or a use of a shared weight."""
    p, x = of.parameters, of.x
    third = "third" if "third.weight" in p else "second"
    a1 = np.tanh(x @ p["first.weight"].T + p["first.bias"])
    a2 = np.tanh(a1 @ p["second.weight"].T + p["second.bias"])
    a3 = np.tanh(a2 @ p[f"{third}.weight"].T + p[f"{third}.bias"])
    out = (a1 + a3) @ p["last.weight"].T + p["last.bias"]
    delta = scale * 2 * (out - of.target) / len(x)
    found = {"last.weight": delta.T @ (a1 + a3), "last.bias": delta.sum(axis=0)}
    above = delta @ p["last.weight"]
    delta3 = above * slope(a3)
    delta2 = (delta3 @ p[f"{third}.weight"]) * slope(a2)
    parts = {"third": (delta3.T @ a2, delta3.sum(axis=0)), "second": (delta2.T @ a1, delta2.sum(axis=0))}
    for use, name in (("third", third), ("second", "second")):
        for own, part in zip(("weight", "bias"), parts[use], strict=True):
            if use not in lost:
                found[f"{name}.{own}"] = found.get(f"{name}.{own}", 0) + part
    dL_da1 = ("skip" not in lost) * above + ("branch" not in lost) * (delta2 @ p["second.weight"])
    delta1 = dL_da1 * slope(a1)
    return {**found, "first.weight": delta1.T @ x, "first.bias": delta1.sum(axis=0)}


def why_residual(of: Problem, found: Mapping[str, Array]) -> Diagnosis:
    return why_drawn(of, found, residual_backprop(of))


RESIDUAL, SHARED = residual_network(), residual_network(shared=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "layer", "wrong"),
    [
        ("skip connection forgotten", "third", {"lost": {"skip"}}),
        ("branch forgotten", "second", {"lost": {"branch"}}),
        ("missing 1/N", "last", {"scale": 7}),
        ("sign", "last", {"scale": -1}),
    ],
)
def test_a_mistake_in_a_residual_network_is_named_first(kind, layer, wrong, seed):
    of = residual_network(seed)
    found = why_residual(of, residual_backprop(of, **wrong))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == (layer,)


@pytest.mark.parametrize(("lost", "kept"), [("second", "third"), ("third", "second")])
def test_a_shared_weight_whose_uses_do_not_all_count_is_named(lost, kept):
    found = why_residual(SHARED, residual_backprop(SHARED, lost={lost}))
    assert kinds(found)[0] == ("shared parameter used once",)
    sentence = found.answers[0].causes[0].sentence
    assert "second.weight and second.bias" in sentence
    assert f"its use in layer {kept} alone" in sentence


@pytest.mark.parametrize("of", [RESIDUAL, SHARED], ids=["residual", "shared"])
def test_one_wrong_function_for_all_activations_is_one_mistake(of):
    found = why_residual(of, residual_backprop(of, slope=lambda a: 1 - np.tanh(a) ** 2))
    assert kinds(found)[0] == ("activation derivative at a",)
    assert set(found.answers[0].causes[0].where) == {"first", "second", "third"}


# --- what is not known -------------------------------------------------------------------------------------


def test_a_mistake_that_the_table_lacks_gets_no_false_name(mistaken):
    """Another name must at least blame the same layer; mostly there is none, and the layer is known."""
    kind, layer, gradients, named = mistaken
    families = {cause.family for answer in named.answers for cause in answer.causes}
    withheld = {kind, *(v.wrong.kind for v in VARIANTS if v.wrong.family.name in families)}
    found = why(GROUPED, gradients, without=frozenset(withheld | GENERAL))
    wrong_layers = {
        name.split(".")[0]
        for name, value in gradients.items()
        if not np.allclose(value, right(GROUPED)[name])
    }
    for cause in (cause for answer in found.answers for cause in answer.causes):
        assert set(cause.where) <= wrong_layers | {layer}
    assert found.answers or set(found.layers) <= wrong_layers
    assert found.answers or found.observations


GENERAL = {"factor", "single entries", "row", "column", "sign", "missing 1/N"}


def drawn_graph(seed: int) -> Problem:
    rng = np.random.default_rng([17, seed])
    if rng.random() < 0.4:
        return residual_network(seed, shared=bool(rng.random() < 0.5))
    raw = random_convolutions(seed)
    return build_problem(Spec.model_validate(raw))


@pytest.mark.parametrize("seed", first(6, range(12)))
def test_a_layer_that_is_right_is_not_blamed(seed):
    of, rng = drawn_graph(seed), np.random.default_rng([19, seed])
    exact = residual_backprop(of) if "last.weight" in of.parameters else right(of)
    layers = sorted({name.split(".")[0] for name in exact})
    wrong = {str(name) for name in rng.choice(layers, size=1 + (rng.random() < 0.3))}
    found = {
        name: spoilt(value, rng) if name.split(".")[0] in wrong else value for name, value in exact.items()
    }
    diagnosis = why_residual(of, found) if "last.weight" in of.parameters else why(of, found)
    causes = [cause for answer in diagnosis.answers for cause in answer.causes]
    named = {layer for cause in causes for layer in cause.where} if causes else set(diagnosis.layers)
    assert named <= wrong, (wrong, kinds(diagnosis), diagnosis)
    assert named


def spoilt(right: Array, rng: np.random.Generator) -> Array:
    """Return a gradient with a random factor, with noise, in another order, or with a unit of zeros."""
    changes = (
        lambda: right * rng.choice([-1.0, 2.0, 0.37, 7.0]),
        lambda: right + rng.normal(size=right.shape) * 0.1 * np.abs(right).max(),
        lambda: right[::-1] + 0.0,
        lambda: right * (np.arange(len(right)) != 0).reshape(-1, *(1,) * (right.ndim - 1)),
    )
    return changes[int(rng.integers(len(changes)))]()


@pytest.mark.parametrize("seed", first(3, range(6)))
def test_a_mistake_of_a_step_in_a_random_network_is_named(seed):
    of, rng = build_problem(Spec.model_validate(random_convolutions(seed))), np.random.default_rng(seed)
    made = 0
    for k in rng.permutation(len(VARIANTS)):
        variant = VARIANTS[k]
        places = [i for i, node in enumerate(of.network.graph.nodes) if isinstance(node.step, variant.step)]
        if variant.wrong.unknown or not places or made == 8:
            continue
        place = int(rng.choice(places))
        found = swept(of, lambda v, at=place, of=variant: (of.made(v) or v.right) if v.i == at else v.right)
        if any(each.wrong.any() for each in compared(of, found)):
            made += 1
            answers = kinds(why(of, found))
            equal = variant.wrong.kind == ENDS_EARLY and (ZERO.kind,) in answers  # a round of padding alone
            assert equal or any(variant.wrong.is_said_by(each) for each in answers), (variant.wrong, answers)
    assert made
