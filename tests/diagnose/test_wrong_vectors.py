"""Mistakes in losses of several vectors, and with ignored labels, are named for a gradient file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import right_gradients

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.problem.problem import build_problem


def raw_of(loss, seed, **data):
    return {
        "network": {"inputs": 4, "layers": [{"units": 5, "activation": "tanh"}, {"units": 6}], "loss": loss},
        "parameters": {"init": "xavier", "bias": "same", "seed": seed},
        "data": {"synthetic": "normal", "samples": 9, "seed": seed, **data},
    }


def kinds_named(raw, change, tmp_path):
    """Return the kinds of the best answer for gradients whose ∂ℓ/∂a went through `change`."""
    problem = build_problem(Spec.model_validate(raw))
    loss = problem.network.loss
    wrong = replace(loss, gradient=lambda a, target: change(a, loss.gradient(a, target)))
    gradients = right_gradients(replace(problem, network=replace(problem.network, loss=wrong)))
    np.savez(tmp_path / "g.npz", **gradients)
    report = check(Spec.model_validate({**raw, "gradients": {"file": tmp_path / "g.npz"}}))
    assert report.verdict is Verdict.WRONG
    return [cause.kind for cause in report.diagnosis.answers[0].causes]


def masked(*factors):
    return lambda a, g: g * np.repeat(factors, g.shape[-1] // len(factors))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "factors", "kind"),
    [
        ("triplet", (0, 1, 1), "embedding without gradient"),
        ("triplet", (1, 0, 1), "embedding without gradient"),
        ("triplet", (1, 1, 0), "embedding without gradient"),
        ("contrastive", (1, 0), "embedding without gradient"),
        ("kl_gaussian", (1, -1), "sign of the KL term"),
        ("kl_gaussian", (-1, 1), "sign of the KL term"),
    ],
)
def test_a_wrong_part_of_the_outputs_is_named(loss, factors, kind, seed, tmp_path):
    assert kinds_named(raw_of(loss, seed), masked(*factors), tmp_path) == [kind]


def of_ignored(seed):
    rng = np.random.default_rng(seed)
    raw = raw_of("cross_entropy", seed)
    labels = rng.integers(6, size=9)
    labels[[1, 4]] = -100
    return {**raw, "data": {"x": rng.normal(size=(9, 4)).tolist(), "y": labels.tolist()}}


@pytest.mark.parametrize("seed", range(3))
def test_ignored_samples_that_are_trained_are_named(seed, tmp_path):
    def trained(a, g):
        p = np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True)
        return np.where(g.any(axis=-1, keepdims=True), g, p)

    assert kinds_named(of_ignored(seed), trained, tmp_path) == ["ignored labels"]


@pytest.mark.parametrize("seed", range(3))
def test_ignored_labels_that_count_in_the_mean_are_named(seed, tmp_path):
    assert kinds_named(of_ignored(seed), lambda a, g: g * 7 / 9, tmp_path) == ["ignored labels"]
