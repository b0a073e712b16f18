"""Bounds in float32 are not much larger than the actual rounding, with every activation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Judge

from gradcheck_cli import Verdict, check
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.sampled_rounding import _Seen, observed_rounding
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.types import EPS

BLOCK = [
    {"residual": ["layer_norm", {"attention": 2}]},
    {"residual": ["layer_norm", {"units": 8, "activation": "gelu"}, {"units": 4}]},
    {"units": 3},
]


@pytest.mark.parametrize("seed", range(3))
def test_a_transformer_block_in_float32_is_checked_finely(seed):
    report = check(spec_of(*BLOCK, inputs=[3, 4], loss="cross_entropy", seed=seed, dtype="float32"))
    assert report.verdict is Verdict.AGREES
    assert report.resolution.median < 0.01


def erf(z):
    return np.vectorize(math.erf, otypes=[float])(z).astype(np.float32)


def softplus(z):
    one = np.float32(1.0)
    return np.log(one + np.exp(z)), one - one / (one + np.exp(z))


def elu(z):
    one = np.float32(1.0)
    a = np.where(z > 0, z, np.exp(np.minimum(z, 0)) - one)
    return a, np.where(z > 0, one, a + one)


def gelu(z):
    half, one = np.float32(0.5), np.float32(1.0)
    cdf = half * (one + erf(z / np.float32(math.sqrt(2.0))))
    return z * cdf, cdf + z * np.exp(-half * z * z) / np.float32(math.sqrt(2.0 * math.pi))


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("activation", [softplus, elu, gelu])
def test_common_formulas_that_lose_digits_are_not_wrong(activation, scale, tmp_path):
    """1 + erf and eᶻ − 1 lose digits in float32, which gradcheck's own formulas keep."""
    for seed in range(3):
        layers = (6, activation.__name__), (5, activation.__name__), (2, "identity")
        rest = {
            "parameters": {"init": "xavier", "scale": scale, "seed": seed, "bias": "same"},
            "dtype": "float32",
            "seed": seed,
        }
        problem = problem_of(*layers, **rest)
        p = {name: value.astype(np.float32) for name, value in problem.parameters.items()}
        a, kept = problem.x.astype(np.float32), []
        for name in ("hidden1", "hidden2"):
            z = a @ p[f"{name}.weight"].T + p[f"{name}.bias"]
            kept.append((name, a, z))
            a = activation(z)[0].astype(np.float32)
        out = a @ p["output.weight"].T + p["output.bias"]
        delta = np.float32(2.0 / len(a)) * (out - problem.target.astype(np.float32))
        found = {"output.weight": delta.T @ a, "output.bias": delta.sum(axis=0)}
        below = delta @ p["output.weight"]
        for name, h, z in reversed(kept):
            delta = (below * activation(z)[1]).astype(np.float32)
            found |= {f"{name}.weight": delta.T @ h, f"{name}.bias": delta.sum(axis=0)}
            below = delta @ p[f"{name}.weight"]
        np.savez(tmp_path / "g.npz", **found)
        described = spec_of(*layers, **rest, gradients={"file": tmp_path / "g.npz"})
        assert check(described).verdict is Verdict.AGREES, seed


WORDS = [{"embedding": 3, "embedding_dim": 4, "padding_idx": 0}, *BLOCK]


@pytest.mark.parametrize("seed", range(3))
def test_a_kink_of_a_penalty_leaves_the_bounds_fine(seed):
    """The padding token's entries are exactly 0, on the kink of |w|, and rounding moves none of them."""
    rest = {"loss": "cross_entropy", "penalty": {"l1": 0.001}, "dtype": "float32", "seed": seed}
    report = check(spec_of(*WORDS, inputs=3, **rest))
    assert report.kinks
    assert report.verdict is Verdict.AGREES
    assert report.resolution.median < 0.01


DEEP = [*(BLOCK[:2] * 3), {"mean": True, "dim": 0}, {"layer_norm": True}, {"units": 2}, {"layer_norm": True}]


@pytest.mark.parametrize("seed", range(2))
def test_a_small_mistake_below_many_norms_is_wrong_in_float64(seed):
    """The worst case of all roundings together would excuse it, but observed rounding does not."""
    spec = spec_of(*DEEP, inputs=[3, 4], loss="mse", seed=seed)
    problem = build_problem(spec)
    judge, right = Judge(spec, problem), right_gradients(problem)
    name = "layer_norm1.weight"
    assert judge.report(right).verdict is Verdict.AGREES
    assert judge.report({**right, name: 1.001 * right[name]}).verdict is Verdict.WRONG


def test_observed_rounding_says_nothing_where_the_gradient_jumps():
    """Rounding at points nearby is far smaller than at a point where the gradient is far larger."""
    wide = np.array([[1.0], [1.0], [1e6]])
    narrow = wide + np.array([[1e-6], [1e-6], [1e3]])
    assert np.isinf(_Seen(narrow, wide).cap).all()
    assert (_Seen(narrow, wide).largest == 0.0).all()
    assert _Seen(narrow[:2], wide[:2]).cap == pytest.approx(5e-6)


def test_a_bias_that_is_off_by_many_observed_roundings_is_undecided():
    """The sum of all worst cases is four times as large, and would excuse it."""
    layers = [{"conv_transpose2d": 1, "kernel": [1, 2], "stride": [2, 1], "activation": "gelu"}]
    spec = spec_of(
        *layers,
        {"flatten": True},
        {"units": 4},
        inputs=[4, 3, 4],
        loss="gaussian_nll",
        dtype="float32",
        seed=1,
    )
    problem = build_problem(spec)
    judge, right, name = Judge(spec, problem), right_gradients(problem), "hidden1.bias"
    assert judge.report(right).verdict is Verdict.AGREES
    assert judge.report({**right, name: right[name] * (1.0 + 2.2e-5)}).verdict is Verdict.UNRESOLVED


def test_rounding_at_the_parameters_counts_as_observed():
    """It may be far larger than at the points nearby."""
    wide = np.ones((4, 1))
    narrow = wide + np.array([[1e-6], [1e-6], [1e-6], [1e-4]])
    assert _Seen(narrow, wide).cap == pytest.approx(5e-4)


def limits_of(problem, dtype=np.float64, wider=np.longdouble):
    at = problem.network, problem.parameters, problem.x, problem.target
    return observed_rounding(*at, np.dtype(dtype), np.dtype(wider)).limits


@pytest.mark.skipif(np.finfo(np.longdouble).eps > EPS / 1000, reason="longdouble is no wider than float64")
@pytest.mark.parametrize("seed", range(4))
def test_observed_rounding_tells_below_a_saturated_softmax(seed):
    """There, a gradient changes by a large share if the parameters change by a thousandth."""
    saturated = {"init": "xavier", "scale": 8.0, "seed": seed}
    problem = problem_of({"attention": 2}, "flatten", (3, "identity"), inputs=[3, 4], parameters=saturated)
    for name, limit in limits_of(problem).items():
        assert np.isfinite(limit).all(), name


@pytest.mark.parametrize(("size", "tells"), [(3.0, True), (13.0, False)])
def test_observed_rounding_tells_about_the_dice_loss_if_no_probability_is_next_to_1(size, tells):
    assert LOSSES["dice"].rounding.steady(np.array([[0.1, size]]), float(np.finfo(np.float32).eps)) == tells


@pytest.mark.parametrize(("loss", "turns"), [("huber", False), ("l1", True)])
def test_a_kink_at_which_only_the_curvature_changes_leaves_the_bounds_fine(loss, turns):
    """Whichever side of the kink rounding chooses, the gradient is the same."""
    y = 1.0 if loss == "huber" else 0.0
    nothing, data = {"init": "zeros"}, {"x": [[1.0, 0.5]], "y": [[y, 0.5]]}
    problem = problem_of((2, "identity"), inputs=2, loss=loss, parameters=nothing, data=data)
    assert problem.objective.kinks.in_loss
    assert problem.objective.kinks.turn == turns


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_rounding_that_is_observed_is_excused_and_larger_mistakes_are_not(seed):
    """The norm cancels the scale of its inputs, apart from its eps, so few digits are left in float32."""
    layers = {"conv2d": 2, "kernel": 1}, {"instance_norm": True, "eps": 3e-5}, "flatten", {"units": 3}
    spec = spec_of(*layers, inputs=[1, 3, 4], seed=seed, dtype="float32")
    problem = build_problem(spec)
    judge, name = Judge(spec, problem), "hidden1.weight"
    p = {each: value.astype(np.float32) for each, value in problem.parameters.items()}
    right = gradients(problem.network, p, problem.x.astype(np.float32), problem.target.astype(np.float32))
    assert judge.report(right).verdict is Verdict.AGREES
    for mistake in (0.003, -0.003, 0.01):
        wrong = right[name] * np.float32(1.0 + mistake)
        assert judge.report({**right, name: wrong}).verdict is not Verdict.AGREES


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("layers", "loss"),
    [
        ([(3, "elu"), (2, "softmax"), (4, "identity")], "mse"),
        ([(3, "elu"), (2, "identity")], "cross_entropy"),
    ],
)
def test_a_term_that_is_lost_in_wide_floats_too_is_not_wrong(layers, loss, seed):
    """Next to a probability that rounds to 1, all digits of 1 minus it are lost, in any type."""
    saturated = {"init": "normal", "scale": 7.0, "seed": seed}
    spec = spec_of(*layers, loss=loss, samples=2, seed=seed, parameters=saturated)
    assert check(spec).verdict is not Verdict.WRONG
