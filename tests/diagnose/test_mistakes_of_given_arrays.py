"""Mistakes with masks, fixed statistics, weight norm, rotations and maxout are named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from build import problem_of
from diagnose.graphs import swept
from diagnose.networks import kinds, right, why

from gradcheck_cli.diagnose.variant import Visit
from gradcheck_cli.network.steps.dropout import SampleDropout
from gradcheck_cli.network.steps.fixed_norm import FixedNormalise
from gradcheck_cli.network.steps.learned_state import LearnedState
from gradcheck_cli.network.steps.max_pool1d import MaxPool1d
from gradcheck_cli.network.steps.maxout import Maxout
from gradcheck_cli.network.steps.normalise import Scale
from gradcheck_cli.network.steps.padded_softmax import PaddedSoftmax
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.weight_norm import WeightNorm
from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
By = Callable[[Visit], Any]

FIRST = {"units": 4, "activation": "tanh"}
RNG = np.random.default_rng(3)
MASK = (RNG.random((5, 3, 4)) < 0.5).astype(int)
PADDING = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]])
MEAN, VARIANCE, EPS = RNG.normal(size=4), RNG.uniform(0.3, 3.0, size=4), 0.05
NORM = {"running_mean": MEAN.tolist(), "running_var": VARIANCE.tolist(), "eps": EPS}
ATTENTION = {"attention": 2, "causal": True, "key_padding_mask": PADDING.tolist()}
LAYERS: dict[type, dict[str, Any]] = {
    Rotary: {"rotary": True, "base": 3.0},
    SampleDropout: {"dropout": 0.4, "mask": MASK.tolist()},
    FixedNormalise: {"units": 4, "batch_norm": NORM, "name": "middle"},
    Scale: {"units": 4, "batch_norm": NORM, "name": "middle"},
    WeightNorm: {"units": 3, "weight_norm": True, "name": "middle"},
    PaddedSoftmax: ATTENTION,
    Maxout: {"maxout": 3, "pieces": 2},
    MaxPool1d: {"max_pool1d": 2, "stride": 1},
    LearnedState: {"gru": 3, "h0": "parameter"},
}


def problem(step: type) -> Problem:
    layer = {"name": "middle", **LAYERS[step]}
    return problem_of(FIRST, layer, "flatten", {"units": 3}, inputs=[3, 4], seed=2)


def turned(x: Array, sign: float, shift: int = 0, interleaved: bool = False) -> Array:
    """Return x with pairs of numbers turned as complex numbers."""
    one, other = (x[..., ::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)
    angles = sign * np.roll(np.arange(3), shift)[:, None] * 3.0 ** -np.array([0.0, 0.5])
    z = (one + 1j * other) * np.exp(1j * angles)
    if interleaved:
        return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
    return np.concatenate([z.real, z.imag], axis=-1)


def softmax(z: Array, kept: Array) -> Array:
    e = np.where(kept, np.exp(z - z.max(axis=-1, keepdims=True)), 0.0)
    return e / e.sum(axis=-1, keepdims=True)


def of_scores(z: Array, g: Array, kept: Array) -> Array:
    a = softmax(z, kept)
    return a * (g - (g * a).sum(axis=-1, keepdims=True))


CAUSAL, KEYS = np.tri(3, dtype=bool), PADDING[:, None, None] == 0


def in_training(z: Array, g: Array, of_batch: bool) -> Array:
    """Return ∂L/∂z with the terms of mean and variance that training has."""
    mean = lambda array: array.mean(axis=(0, 1))  # noqa: E731
    root = np.sqrt((mean((z - mean(z)) ** 2) if of_batch else VARIANCE) + EPS)
    z_hat = (z - (mean(z) if of_batch else MEAN)) / root
    return (g - mean(g) - z_hat * mean(g * z_hat)) / root


def weight_norm(v: Visit, wrong: str) -> tuple[Array, dict[str, Array]]:
    """Return the gradients of a dense layer with weight norm, one row after another."""
    g, w_v, x = v.p["weight_g"], v.p["weight_v"], v.inputs[0].reshape(-1, 4)
    delta = v.upstream.reshape(-1, 3)
    below, of_g, of_v = np.zeros_like(x), np.zeros_like(g), np.zeros_like(w_v)
    for u in range(3):
        length, dw = np.linalg.norm(w_v[u]), delta[:, u] @ x
        unit = w_v[u] / length
        of_g[u] = dw @ (w_v[u] if wrong == "g of v" else unit)
        along = 0.0 if wrong == "constant" else unit * (dw @ unit)
        of_v[u] = (1.0 if wrong == "unscaled" else g[u] / length) * (dw - along)
        of_v[u] = dw if wrong == "of w" else of_v[u]
        below += np.outer(delta[:, u], w_v[u] if wrong == "through v" else g[u] * unit)
    own = {"weight_g": of_g, "weight_v": of_v, "bias": delta.sum(axis=0)}
    return below.reshape(v.inputs[0].shape), own


def by_weight_norm(wrong: str) -> By:
    def by(v: Visit) -> Any:
        below, own = weight_norm(v, wrong)
        return (below,), own

    return by


def below(of: Callable[[Visit], Array]) -> By:
    return lambda v: ((of(v), *v.right[0][1:]), v.right[1])


def gamma(of: Callable[[Visit], Array]) -> By:
    return lambda v: (v.right[0], {**v.right[1], "gamma": of(v)})


def of_state(of: Callable[[Array], Array]) -> By:
    return lambda v: (v.right[0], {"weight": of(v.upstream)})


def pieces(v: Visit, share: Callable[[Array], Array]) -> Array:
    """Return ∂L/∂z of maxout with two pieces, given the shares of the two."""
    z = v.inputs[0].reshape(5, 3, 3, 2)
    return (share(z) * v.upstream[..., None]).reshape(v.inputs[0].shape)


def windows(v: Visit, added: bool) -> Array:
    """Return ∂L/∂x of max pooling with windows of 2 and a stride of 1."""
    x, handed = v.inputs[0], np.zeros_like(v.inputs[0])
    for n, c, i in np.ndindex(*v.upstream.shape):
        k = i + int(x[n, c, i : i + 2].argmax())
        handed[n, c, k] = v.upstream[n, c, i] + (handed[n, c, k] if added else 0.0)
    return handed


RIGHT: tuple[tuple[type, By], ...] = (
    (Rotary, below(lambda v: turned(v.upstream, -1.0))),
    (SampleDropout, below(lambda v: v.upstream * MASK / 0.6)),
    (FixedNormalise, below(lambda v: v.upstream / np.sqrt(VARIANCE + EPS))),
    (WeightNorm, by_weight_norm("")),
    (PaddedSoftmax, below(lambda v: of_scores(v.inputs[0], v.upstream, CAUSAL & KEYS))),
    (Maxout, below(lambda v: pieces(v, lambda z: z == z.max(axis=-1, keepdims=True)))),
    (MaxPool1d, below(lambda v: windows(v, True))),
)

MISTAKES: tuple[tuple[str, type, By], ...] = (
    ("rotation not inverted", Rotary, below(lambda v: turned(v.upstream, 1.0))),
    ("rotation left out", Rotary, below(lambda v: v.upstream)),
    ("rotation of other pairs", Rotary, below(lambda v: turned(v.upstream, -1.0, interleaved=True))),
    ("rotation of another token", Rotary, below(lambda v: turned(v.upstream, -1.0, shift=1))),
    ("dropout: mask not in backward", SampleDropout, below(lambda v: v.upstream)),
    ("dropout: scale forgotten", SampleDropout, below(lambda v: v.upstream * MASK)),
    ("dropout: mask applied twice", SampleDropout, below(lambda v: v.upstream * MASK / 0.36)),
    ("dropout: mask of another sample", SampleDropout, below(lambda v: v.upstream * MASK[0] / 0.6)),
    (
        "batch norm, fixed: training formula",
        FixedNormalise,
        below(lambda v: in_training(v.inputs[0], v.upstream, True)),
    ),
    (
        "batch norm, fixed: training formula",
        FixedNormalise,
        below(lambda v: in_training(v.inputs[0], v.upstream, False)),
    ),
    ("batch norm, fixed: left out", FixedNormalise, below(lambda v: v.upstream)),
    (
        "batch norm, fixed: variance in place of deviation",
        FixedNormalise,
        below(lambda v: v.upstream / (VARIANCE + EPS)),
    ),
    ("batch norm, fixed: eps forgotten", FixedNormalise, below(lambda v: v.upstream / np.sqrt(VARIANCE))),
    ("batch norm: gamma forgotten", Scale, below(lambda v: v.upstream)),
    (
        "batch norm: gamma gradient from z",
        Scale,
        gamma(lambda v: (v.upstream * v.at.values[v.i - 1]).sum(axis=(0, 1))),
    ),
    ("weight norm: norm held constant", WeightNorm, by_weight_norm("constant")),
    ("weight norm: gradient of w", WeightNorm, by_weight_norm("of w")),
    ("weight norm: scale forgotten", WeightNorm, by_weight_norm("unscaled")),
    ("weight norm: v not divided by its norm", WeightNorm, by_weight_norm("g of v")),
    ("weight norm: passed down through v", WeightNorm, by_weight_norm("through v")),
    (
        "mask not in backward",
        PaddedSoftmax,
        below(lambda v: of_scores(v.inputs[0], v.upstream, np.array(True))),
    ),
    (
        "padding mask not in backward",
        PaddedSoftmax,
        below(lambda v: of_scores(v.inputs[0], v.upstream, CAUSAL)),
    ),
    (
        "padding mask over queries",
        PaddedSoftmax,
        below(lambda v: of_scores(v.inputs[0], v.upstream, CAUSAL & KEYS) * (PADDING == 0)[:, None, :, None]),
    ),
    ("gradient to every value in a window", Maxout, below(lambda v: pieces(v, np.ones_like))),
    (
        "gradient to the first value in a window",
        Maxout,
        below(lambda v: pieces(v, lambda z: np.broadcast_to([1.0, 0.0], z.shape))),
    ),
    (
        "gradient to the smallest value",
        Maxout,
        below(lambda v: pieces(v, lambda z: z < z.max(-1, keepdims=True))),
    ),
    ("initial state averaged over samples", LearnedState, of_state(lambda g: g.mean(axis=0))),
    ("initial state's gradient from one sample", LearnedState, of_state(lambda g: g[-1])),
    ("windows overwritten", MaxPool1d, below(lambda v: windows(v, False))),
)


def instead(step: type, by: By) -> By:
    return lambda v: by(v) if isinstance(v.step, step) else v.right


@pytest.mark.parametrize(("step", "by"), RIGHT, ids=lambda value: getattr(value, "__name__", ""))
def test_the_backward_by_hand_is_right(step, by):
    of = problem(step)
    for name, gradient in swept(of, instead(step, by)).items():
        np.testing.assert_allclose(gradient, right(of)[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "step", "by"), MISTAKES, ids=[f"{kind}-{n}" for n, (kind, *_) in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_first(kind, step, by):
    of = problem(step)
    found = why(of, swept(of, instead(step, by)))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == ("middle",)
