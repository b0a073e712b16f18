"""Mistakes in networks that are not chains of dense layers are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from diagnose.networks import compared, kinds, readable, right, why
from random_networks import random_convolutions
from shares import first

from gradcheck_cli.comparison import compare
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.graph import diagnose_graph
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.steps import VARIANTS
from gradcheck_cli.diagnose.variant import Visit, pass_through
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.estimate import Estimate
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
        "batch norm: gamma gradient of z",
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
    ("batch norm: bias gradient above it", "hidden2", {"bias": lambda d, dL_dy: dL_dy.sum(axis=(0, 2, 3))}),
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


@pytest.mark.parametrize(("kind", "layer", "wrong"), MISTAKES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_mistake_next_to_a_convolution_in_groups_is_named_first(kind, layer, wrong):
    found = why(GROUPED, backprop(GROUPED, **wrong))
    names = {cause.kind for cause in found.answers[0].causes} | {c.family for c in found.answers[0].causes}
    assert kind in names
    assert len(found.answers[0].causes) == 1
    assert found.answers[0].causes[0].where == (layer,)
    assert found.layers == (layer,)


# --- branches and shared weights ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Add(Step):
    """The sum of two values."""

    couples = "nothing"

    def forward(self, p: Any, *inputs: Array) -> Array:
        return inputs[0] + inputs[1]

    def vjp(self, p: Any, inputs: Any, output: Array, upstream: Array) -> Any:
        return (upstream, upstream), {}


def _layer(name: str, *units: int, value: int, shared: str = "") -> list[Node]:
    names = {own: f"{shared or name}.{own}" for own in ("weight", "bias")}
    tanh = Pointwise(ACTIVATIONS["tanh"], "tanh")
    return [Node(Dense(*units), name, (value,), names), Node(tanh, name, (value + 1,), {})]


def residual_network(seed: int = 2, shared: bool = False) -> Problem:
    """x → first, then second and third with a skip connection around both, then the output.

    shared: whether the third layer has the second one's parameters.
    """
    spec = {
        "network": {
            "inputs": 4,
            "layers": [
                {"units": 5, "activation": "tanh", "name": name} for name in ("first", "second", "third")
            ]
            + [{"units": 3, "name": "last"}],
            "loss": {"name": "mse", "reduction": "batchmean"},
        },
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 7, "seed": seed},
    }
    plain = build_problem(Spec.model_validate(spec))
    third = _layer("third", 5, 5, value=4, shared="second" if shared else "")
    names = {own: f"last.{own}" for own in ("weight", "bias")}
    nodes = [*_layer("first", 4, 5, value=0), *_layer("second", 5, 5, value=2), *third]
    nodes += [Node(Add(), "third", (2, 6), {}), Node(Dense(5, 3), "last", (7,), names)]
    p = {name: value for name, value in plain.parameters.items() if not (shared and name.startswith("third"))}
    network = plain.network
    graph = Graph(tuple(nodes), network.features)
    return replace(plain, network=replace(network, graph=graph), parameters=p)


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


def why_drawn(
    of: Problem, found: Mapping[str, Array], exact: Mapping[str, Array] | None = None, **options: Any
) -> Diagnosis:
    exact = residual_backprop(of) if exact is None else exact
    comparisons = [
        compare(name, value, Estimate(exact[name], 1e-12 * np.abs(exact[name])), bounds(exact[name]), 1e-7)
        for name, value in found.items()
    ]
    return readable(diagnose_graph(of, exact, comparisons, **options))


def bounds(right: Array) -> Array:
    return np.full(right.shape, 1e-14 * np.abs(right).max())


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
    found = why_drawn(of, residual_backprop(of, **wrong))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == (layer,)


@pytest.mark.parametrize(("lost", "kept"), [("second", "third"), ("third", "second")])
def test_a_shared_weight_whose_uses_do_not_all_count_is_named(lost, kept):
    found = why_drawn(SHARED, residual_backprop(SHARED, lost={lost}))
    assert kinds(found)[0] == ("shared parameter used once",)
    sentence = found.answers[0].causes[0].sentence
    assert "second.weight and second.bias" in sentence
    assert f"its use in layer {kept} alone" in sentence


@pytest.mark.parametrize("of", [RESIDUAL, SHARED], ids=["residual", "shared"])
def test_one_wrong_function_for_all_activations_is_one_mistake(of):
    found = why_drawn(of, residual_backprop(of, slope=lambda a: 1 - np.tanh(a) ** 2))
    assert kinds(found)[0] == ("activation derivative at a",)
    assert set(found.answers[0].causes[0].where) == {"first", "second", "third"}


# --- what is not known -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "layer", "wrong"), MISTAKES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_mistake_that_the_table_lacks_gets_no_false_name(kind, layer, wrong):
    """Another name must at least blame the same layer; mostly there is none, and the layer is known."""
    gradients = backprop(GROUPED, **wrong)
    families = {cause.family for answer in why(GROUPED, gradients).answers for cause in answer.causes}
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


@pytest.mark.parametrize("seed", first(12, range(120)))
def test_a_layer_that_is_right_is_not_blamed(seed):
    of, rng = drawn_graph(seed), np.random.default_rng([19, seed])
    exact = residual_backprop(of) if "last.weight" in of.parameters else right(of)
    layers = sorted({name.split(".")[0] for name in exact})
    wrong = {str(name) for name in rng.choice(layers, size=1 + (rng.random() < 0.3))}
    found = {
        name: spoilt(value, rng) if name.split(".")[0] in wrong else value for name, value in exact.items()
    }
    diagnosis = why_drawn(of, found) if "last.weight" in of.parameters else why(of, found)
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


def swept(of: Problem, wrong: Callable[[Visit], Any]) -> dict[str, Array]:
    """Return the gradients of a sweep with this function in place of every `vjp`."""
    network, at = of.network, pass_through(of, {name: matrix(value) for name, value in right(of).items()})
    upstream = {len(at.values) - 1: network.coefficient * network.loss.gradient(at.values[-1], of.target)}
    gradients, arrived = dict[str, Array](), dict[int, Array]()
    for i in reversed(range(len(network.graph.nodes))):
        visit = Visit(at, i, upstream[i + 1], arrived)
        shares, own = wrong(visit)
        arrived = {**arrived, i: upstream[i + 1]}
        for k, share in zip(visit.node.inputs, shares, strict=True):
            upstream[k] = upstream[k] + share if k in upstream else share
        gradients |= {visit.node.names[name]: value for name, value in own.items()}
    return gradients


@pytest.mark.parametrize("seed", first(6, range(60)))
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
            assert any(variant.wrong.is_said_by(each) for each in answers), (variant.wrong, answers)
    assert made


# --- layer normalisation -----------------------------------------------------------------------------------


def layer_norm_network() -> Problem:
    """x → first, tanh → layer normalisation with γ and β → last."""
    plain, names = residual_network(), {own: f"last.{own}" for own in ("weight", "bias")}
    scale = {own: f"norm.{own}" for own in ("gamma", "beta")}
    nodes = [
        *_layer("first", 4, 5, value=0),
        Node(Normalise.over_features(EPS, 1), "norm", (2,), {}),
        Node(Scale((5,)), "norm", (3,), scale),
        Node(Dense(5, 3), "last", (4,), names),
    ]
    graph, rng = Graph(tuple(nodes), (4,)), np.random.default_rng(8)
    p = {name: rng.normal(size=shape) for name, shape in graph.shapes.items()}
    return replace(plain, network=replace(plain.network, graph=graph), parameters=p)


def layer_norm_backprop(
    of: Problem,
    into_norm: Part = lambda dL_dy, gamma: dL_dy * gamma,
    norm: Part = norm,
    gamma: Part = lambda z_hat, z: z_hat,
) -> dict[str, Array]:
    p, x = of.parameters, of.x

    def mean(array: Array) -> Array:
        return array.mean(axis=1, keepdims=True)

    a = np.tanh(x @ p["first.weight"].T + p["first.bias"])
    deviation = np.sqrt(mean((a - mean(a)) ** 2) + EPS)
    z_hat = (a - mean(a)) / deviation
    y = p["norm.gamma"] * z_hat + p["norm.beta"]
    delta = 2 * (y @ p["last.weight"].T + p["last.bias"] - of.target) / len(x)
    dL_dy = delta @ p["last.weight"]
    dL_da = norm(into_norm(dL_dy, p["norm.gamma"]), z_hat, deviation, mean)
    delta1 = dL_da * (1 - a * a)
    return {
        "last.weight": delta.T @ y,
        "last.bias": delta.sum(axis=0),
        "norm.gamma": (dL_dy * gamma(z_hat, a)).sum(axis=0),
        "norm.beta": dL_dy.sum(axis=0),
        "first.weight": delta1.T @ x,
        "first.bias": delta1.sum(axis=0),
    }


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("mean term missing", {"norm": lambda g, h, s, mean: (g - h * mean(g * h)) / s}),
        ("variance term missing", {"norm": lambda g, h, s, mean: (g - mean(g)) / s}),
        ("mean subtracted twice", {"norm": lambda g, h, s, mean: (g - 2 * mean(g) - h * mean(g * h)) / s}),
        ("statistics held constant", {"norm": lambda g, h, s, mean: g / s}),
        ("eps forgotten", {"norm": lambda g, h, s, mean: norm(g, h, s, mean) * s / np.sqrt(s**2 - EPS)}),
        ("gamma forgotten", {"into_norm": lambda dL_dy, gamma: dL_dy}),
        ("gamma gradient of z", {"gamma": lambda z_hat, z: z}),
    ],
)
def test_a_mistake_in_layer_normalisation_is_named_first(kind, wrong):
    of = layer_norm_network()
    found = why_drawn(of, layer_norm_backprop(of, **wrong), layer_norm_backprop(of))
    assert kinds(found)[0] == (f"layer norm: {kind}",)
    assert "batch" not in found.answers[0].causes[0].sentence
    assert found.answers[0].causes[0].where == ("norm",)
