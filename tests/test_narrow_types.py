"""Functions that compute in half precision: right is never called wrong, and no mistake passes."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.testing import WrongGradientError
from gradcheck_cli.verdict import Verdict


def bfloat16(values):
    """Round to the nearest bfloat16 numbers, in float32."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)


def float16(values):
    return np.asarray(values, np.float16).astype(np.float32)


def float32(values):
    return np.asarray(values, np.float32)


def squares(rng, to):
    """Return Σ tanh(w a)² / N."""
    a = to(rng.normal(size=(4, 5)))

    def f(p):
        w = to(p["w"])
        t = to(np.tanh(to(w @ a)))
        d = to(2 * t / 5) * (1 - t * t)
        return float(to((t * t).sum() / 5)), {"w": to(to(d) @ a.T)}

    return f, {"w": rng.normal(size=(3, 4))}


def cross_entropy(rng, to):
    """Return a loss that is itself rounded, so that it hardly moves."""
    labels = rng.integers(0, 4, 6)

    def f(p):
        z = to(p["w"])
        e = to(np.exp(z - z.max(axis=1, keepdims=True)))
        share = to(e / to(e.sum(axis=1, keepdims=True)))
        picked = share[np.arange(6), labels]
        gradient = share.copy()
        gradient[np.arange(6), labels] -= 1
        return float(to(-np.log(picked).mean())), {"w": to(gradient / 6)}

    return f, {"w": rng.normal(size=(6, 4))}


def scalar(rng, to):
    c = float(rng.normal())

    def f(p):
        w = to(p["w"])
        return float(to(c * w * w)[0]), {"w": to(2 * c * w)}

    return f, {"w": np.array([rng.normal() + 2.0])}


def with_exact_parts(rng, to):
    """Return a loss with weight decay in float64 and one unrounded tensor; the rest stands still."""
    a = to(rng.normal(size=(4, 5)))

    def f(p):
        w = to(p["w"])
        t = to(np.tanh(to(w @ a)))
        data = to(to(to(2 * t) * (1 - t * t)) @ a.T).astype(np.float64)
        loss = float(to((t * t).sum())) + 0.05 * (p["w"] ** 2).sum() + (p["s"] ** 3).sum()
        return loss, {"w": data + 0.1 * p["w"], "s": 3 * p["s"] ** 2}

    return f, {"w": rng.normal(size=(3, 4)), "s": rng.normal(size=3)}


KINDS = (squares, cross_entropy, scalar, with_exact_parts)
TYPES = (bfloat16, float16, float32)
SEEDS = range(3)


def verdict(f, parameters, factor=1.0, **how):
    def scaled(p):
        loss, gradients = f(p)
        return loss, {name: factor * gradient for name, gradient in gradients.items()}

    try:
        return check_gradients(scaled, parameters, allow_undecided=True, **how).verdict
    except WrongGradientError:
        return Verdict.WRONG


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_right_gradient_is_never_wrong(kind, to, fast):
    for seed in SEEDS:
        assert verdict(*kind(np.random.default_rng(seed), to), fast=fast) is not Verdict.WRONG, seed


@pytest.mark.parametrize("factor", [-1.0, 3.0])
@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_gradient_never_passes(kind, to, factor):
    for seed in SEEDS:
        assert verdict(*kind(np.random.default_rng(seed), to), factor) is not Verdict.AGREES, seed


@pytest.mark.parametrize("kind", [squares, cross_entropy, with_exact_parts])
def test_float16_reveals_a_sign_and_float32_a_tenth(kind):
    for seed in SEEDS:
        assert verdict(*kind(np.random.default_rng(seed), float16), -1.0) is Verdict.WRONG
        assert verdict(*kind(np.random.default_rng(seed), float32), 1.1) is Verdict.WRONG


def test_the_report_says_what_would_decide():
    f, parameters = squares(np.random.default_rng(0), float32)
    report = check_gradients(f, parameters, allow_undecided=True)
    assert report.verdict is Verdict.UNRESOLVED
    assert report.deciding_rtol is not None
    assert check_gradients(f, parameters, rtol=report.deciding_rtol).passed
    off = 1.0 + 30 * report.deciding_rtol
    assert verdict(f, parameters, off, rtol=report.deciding_rtol) is not Verdict.AGREES


def test_nothing_is_suggested_for_gradients_lost_in_noise():
    f, parameters = cross_entropy(np.random.default_rng(0), bfloat16)
    assert check_gradients(f, parameters, allow_undecided=True).deciding_rtol is None


ROUNDED = {
    "to a decimal": lambda g: np.round(g, 1),
    "to two decimals": lambda g: np.round(g, 2),
    "to four decimals": lambda g: np.round(g, 4),
    "to three digits": lambda g: np.vectorize(lambda v: float(f"{v:.3g}"))(g),
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("how", ROUNDED)
def test_a_gradient_rounded_to_decimals_is_wrong(how, seed, fast):
    """It is constant for small changes, like a gradient in half precision, but has another cause."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(1, 9, (4, 3))

    def f(p):
        t = np.tanh(p["w"])
        return (sizes * t).sum(), {"w": ROUNDED[how](sizes * (1 - t * t))}

    with pytest.raises(WrongGradientError):
        check_gradients(f, {"w": rng.normal(size=(4, 3))}, fast=fast)


@pytest.mark.parametrize("seed", range(3))
def test_decimals_only_at_the_point_do_not_count_as_rounding(seed):
    tenths = np.random.default_rng(seed).integers(1, 30, (4, 3)) / 10
    report = check_gradients(lambda p: ((p["w"] ** 2).sum(), {"w": 2 * p["w"]}), {"w": tenths})
    assert report.verdict is Verdict.AGREES
