"""The whole check with each loss of the table: right gradients are never wrong, mistakes always are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from build import right_gradients, units_for
from random_networks import SMOOTH_ACTIVATIONS, problem_or_none, random_spec

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.network.losses import LOSSES

OPTIONS: dict[str, Any] = {
    "beta": lambda rng: rng.uniform(0.2, 2.0),
    "delta": lambda rng: rng.uniform(0.2, 2.0),
    "alpha": lambda rng: rng.choice([-1.0, 0.25, 0.9]),
    "gamma": lambda rng: rng.choice([0.0, 0.5, 1.0, 2.0, 3.0]),
    "smooth": lambda rng: rng.choice([1e-3, 1.0]),
    "margin": lambda rng: rng.uniform(0.5, 3.0),
    "eps": lambda rng: rng.choice([1e-8, 1e-6]),
    "label_smoothing": lambda rng: rng.uniform(0.0, 0.3),
}


def spec_with(loss: str, seed: int, dtype: str) -> dict[str, Any]:
    """Return a random network with this loss, random options and weights, and labels to ignore if it can."""
    rng = np.random.default_rng(seed)
    raw = random_spec(seed, SMOOTH_ACTIVATIONS, (loss,), dtype, (1, 3), None)
    layers, row = raw["network"]["layers"], LOSSES[loss]
    layers[-1] = {"units": units_for(loss, int(rng.integers(2, 7)))}
    if loss in ("nll", "kl_div", "poisson_nll"):
        layers[-1]["activation"] = "identity"
    for option in (*row.options, *row.of_target):
        if option in OPTIONS and rng.random() < 0.5:
            raw["network"]["loss"][option] = float(OPTIONS[option](rng))
    if "pos_weight" in row.options:
        units = layers[-1]["units"]
        raw["network"]["loss"]["pos_weight"] = rng.uniform(0.0, 4.0, size=units).tolist()
    raw["data"]["samples"] = samples = int(rng.integers(3, 17))
    if row.ignored:
        _ignore_some(raw, rng)
    if rng.random() < 0.5:
        raw["network"]["loss"]["sample_weight"] = rng.uniform(0.0, 3.0, size=samples).tolist()
    return raw


def _ignore_some(raw: dict[str, Any], rng: np.random.Generator) -> None:
    samples, outputs = raw["data"]["samples"], raw["network"]["layers"][-1]["units"]
    labels = np.where(rng.random(samples) < 0.3, -100, rng.integers(outputs, size=samples))
    labels[0] = 0
    x = rng.normal(size=(samples, raw["network"]["inputs"]))
    raw["data"] = {"x": x.tolist(), "y": labels.tolist()}
    raw["network"]["loss"]["weight"] = rng.uniform(0.5, 2.0, size=outputs).tolist()


def seeds(count: int) -> list[int]:
    return [int(seed) for seed in np.random.default_rng(1059).integers(2**31, size=count)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", LOSSES)
def test_right_gradients_of_every_loss_agree(loss, dtype):
    """Draw new seeds in every run."""
    for seed in seeds(6):
        raw = spec_with(loss, seed, dtype)
        if problem_or_none(raw) is not None:
            report = check(Spec.model_validate(raw))
            assert report.verdict is not Verdict.WRONG, (seed, report.worst(3))


@pytest.mark.parametrize("loss", LOSSES)
def test_plain_networks_of_every_loss_are_decided(loss):
    for seed in range(4):
        raw = spec_with(loss, seed, "float64")
        raw["network"]["layers"] = [{"units": 5, "activation": "tanh"}, raw["network"]["layers"][-1]]
        assert check(Spec.model_validate(raw)).verdict is Verdict.AGREES, seed


def _doubled_row(g: np.ndarray) -> None:
    g[np.abs(g).sum(axis=1).argmax()] *= 2.0


def _one_entry(g: np.ndarray) -> None:
    g.flat[np.abs(g).argmax()] *= 1.01


def _sign(g: np.ndarray) -> None:
    g *= -1.0


@pytest.mark.usefixtures("undiagnosed")
@pytest.mark.parametrize("mistake", [_doubled_row, _one_entry, _sign])
@pytest.mark.parametrize("loss", LOSSES)
def test_mistakes_with_every_loss_are_wrong(loss, mistake, tmp_path):
    for seed in seeds(2):
        raw = spec_with(loss, seed, "float64")
        problem = problem_or_none(raw)
        if problem is None:
            continue
        wrong = right_gradients(problem)
        if np.abs(wrong["output.weight"]).max() < 1e-6:
            continue
        mistake(wrong["output.weight"])
        np.savez(tmp_path / "g.npz", **wrong)
        report = check(Spec.model_validate({**raw, "gradients": {"file": tmp_path / "g.npz"}}))
        assert report.verdict is Verdict.WRONG, seed
