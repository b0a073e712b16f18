"""Bounds in float32 are not much larger than the actual rounding, with every activation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from build import problem_of, spec_of

from gradcheck_cli import Verdict, check

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
