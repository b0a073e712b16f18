"""Random networks with convolutions: right gradients are never called wrong, and wrong ones never pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from build import right_gradients
from shares import first

from gradcheck_cli import Report, Spec, Verdict, check
from gradcheck_cli.model.problem import build_problem

Array = np.ndarray
Raw = dict[str, Any]

SEEDS = range(20)
DTYPES = ("float64", "float32")


def drawn(seed: int, dtype: str = "float64") -> Raw:
    """Draw one or two convolutions of random options below a dense layer."""
    rng = np.random.default_rng(seed)
    channels = 2 * int(rng.integers(1, 3))
    layers = [_convolution(rng) for _ in range(int(rng.integers(1, 3)))]
    return {
        "network": {
            "inputs": [channels, int(rng.integers(5, 8)), int(rng.integers(5, 8))],
            "layers": [*layers, "flatten", {"units": int(rng.integers(2, 5))}],
            "loss": str(rng.choice(["mse", "cross_entropy"])),
        },
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": int(rng.integers(3, 7)), "seed": seed},
        "dtype": dtype,
    }


def _convolution(rng: np.random.Generator) -> Raw:
    def pair(low: int, high: int) -> list[int]:
        return [int(number) for number in rng.integers(low, high, size=2)]

    return {
        "conv2d": 2 * int(rng.integers(1, 3)),
        "kernel": pair(1, 4),
        "stride": pair(1, 3),
        "padding": pair(1, 3),
        "dilation": pair(1, 3),
        "groups": int(rng.integers(1, 3)),
        "activation": str(rng.choice(["relu", "tanh"])),
        "batch_norm": bool(rng.random() < 0.4),
    }


def report_of(raw: Raw) -> Report:
    return check(Spec.model_validate(raw))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_right_gradients_are_never_called_wrong(seed, dtype):
    report = report_of(drawn(seed, dtype))
    assert report.wrong == 0, report.worst(3)
    assert report.verdict is not Verdict.WRONG


def test_fresh_seeds_give_the_same_verdict():
    """Draw new seeds in every run."""
    for _ in range(3):
        seed = int(np.random.default_rng().integers(2**31))
        report = report_of(drawn(seed))
        assert report.wrong == 0, (seed, report.worst(3))


def test_most_entries_are_decided():
    reports = [report_of(drawn(seed)) for seed in SEEDS]
    assert sum(report.verdict is Verdict.AGREES for report in reports) >= 0.8 * len(reports)


def test_every_option_is_drawn():
    layers = [layer for seed in SEEDS for layer in drawn(seed)["network"]["layers"] if "conv2d" in layer]
    for option in ("stride", "padding", "dilation", "groups", "activation", "batch_norm"):
        assert len({str(layer[option]) for layer in layers}) > 1


def _one_entry(kernel: Array) -> Array:
    """Change the largest entry by 1 %."""
    wrong = kernel.copy()
    wrong.flat[np.abs(wrong).argmax()] *= 1.01
    return wrong


PLANTED: Mapping[str, Callable[[Array], Array]] = {
    "1 % of one entry": _one_entry,
    "a sign": lambda kernel: -kernel,
    "a factor": lambda kernel: 1.02 * kernel,
    "one channel": lambda kernel: np.concatenate([0.5 * kernel[:1], kernel[1:]]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", PLANTED)
@pytest.mark.parametrize("seed", first(6, SEEDS))
def test_a_wrong_kernel_gradient_never_passes(seed, mistake, dtype, tmp_path):
    raw = drawn(seed, dtype)
    problem = build_problem(Spec.model_validate(raw))
    right, name = right_gradients(problem), "hidden1.weight"
    assert np.abs(right[name]).max() > 0
    wrong = {
        key: value.astype(dtype) for key, value in {**right, name: PLANTED[mistake](right[name])}.items()
    }
    np.savez(tmp_path / "wrong.npz", **wrong)
    report = report_of({**raw, "gradients": {"file": str(tmp_path / "wrong.npz")}})
    assert report.verdict is Verdict.WRONG
    assert [each.name for each in report.comparisons if each.wrong.any()] == [name]
