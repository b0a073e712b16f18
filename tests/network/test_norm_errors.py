"""The errors that a normalisation carries on: bounds hold, and what a norm removes does not count."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli.network.steps import norm_errors
from gradcheck_cli.network.steps.norm_errors import carried, projected

EPS = 1e-5


def normalised(z, divisor, centred):
    """The normalised values, and the deviation, (…, 1)."""
    rest = z - z.mean(axis=-1, keepdims=True) if centred else z
    deviation = np.sqrt(np.square(rest).sum(axis=-1, keepdims=True) / divisor + EPS)
    return rest / deviation, deviation


def drawn(seed, m):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(4, m)) * rng.choice([0.1, 1.0, 10.0], (4, 1))
    return rng, z, rng.uniform(0.0, 1.0, z.shape) * rng.integers(0, 2, z.shape)


@pytest.fixture(params=["exact", "simple"], autouse=True)
def _storage(request, monkeypatch):
    if request.param == "simple":
        monkeypatch.setattr(norm_errors, "_MOST_NUMBERS", 0)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("m", [2, 3, 6, 40])
@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.1, 0.5, 2.0])
def test_no_error_of_the_input_exceeds_the_bound(share, m, centred):
    """A share of 2 means that errors may be twice as large as the deviation."""
    for seed, unbiased in [(1, 0), (2, int(centred))]:
        rng, z, sizes = drawn(seed, m)
        z_hat, deviation = normalised(z, m - unbiased, centred)
        error = share * deviation * sizes
        bound = carried(error, z_hat, deviation, m - unbiased, centred)
        for signs in [np.ones(m), *rng.choice([-1.0, 1.0], (20, *z.shape)), *rng.uniform(-1, 1, (20, m))]:
            moved, _ = normalised(z + signs * error, m - unbiased, centred)
            assert (np.abs(moved - z_hat) <= bound + 1e-12).all()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("m", [2, 3, 6, 40])
def test_no_error_of_the_upstream_exceeds_the_bound(m, centred):
    rng, z, error = drawn(m, m)
    z_hat, _ = normalised(z, m, centred)
    bound = projected(error, z_hat, m, centred)
    for signs in rng.choice([-1.0, 1.0], (20, *z.shape)):
        g = signs * error
        handed = g - z_hat * (g * z_hat).mean(axis=-1, keepdims=True)
        handed = handed - g.mean(axis=-1, keepdims=True) if centred else handed
        assert (np.abs(handed) <= bound + 1e-12).all()


def test_what_a_norm_removes_does_not_count():
    """The root mean square of one number is its size, and two numbers are normalised to ±1."""
    one, two = np.array([[3.0]]), np.array([[3.0, -2.0]])
    for z, centred in ((one, False), (two, True)):
        z_hat, deviation = normalised(z, z.shape[-1], centred)
        assert carried(np.full(z.shape, 1e-6), z_hat, deviation, z.shape[-1], centred).max() < 2e-11 + (
            1e-6 * (norm_errors._MOST_NUMBERS == 0)
        )


SIZES = [1e-9, 1e-4, 0.1, 0.5, 1.0, 3.0]
"""The sizes of errors, relative to the numbers."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_the_bound_without_a_mean_holds_for_errors_of_any_size(size, zeros):
    rng = np.random.default_rng(int(1e9 * size) % 1000)
    for eps in (2.2e-16, 1e-3, 1.0):
        x = rng.normal(size=(500, 4)) * (rng.random((500, 4)) >= zeros)
        error = size * np.abs(rng.normal(size=x.shape)) * (rng.random(x.shape) < 0.7)
        root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
        bound = carried(error, x / root, root, x.shape[-1], centred=False)
        for _ in range(10):
            moved = x + error * rng.uniform(-1.0, 1.0, x.shape).round(rng.integers(3))
            other = moved / np.sqrt((moved * moved).mean(axis=-1, keepdims=True) + eps)
            assert (np.abs(other - x / root) <= bound + 1e-13).all()


@pytest.mark.parametrize("size", SIZES)
def test_an_exact_zero_stays_exact_without_a_mean(size):
    rng = np.random.default_rng(int(1e9 * size) % 1000)
    x = rng.normal(size=(20, 5))
    error = size * np.abs(rng.normal(size=x.shape))
    x[:, 2] = error[:, 2] = 0.0
    root = np.sqrt((x * x).mean(axis=-1, keepdims=True))
    bound = carried(error, x / root, root, 5, centred=False)
    assert not bound[:, 2].any()
    assert (bound[:, :2] > 0.0).all()
