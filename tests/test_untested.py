"""Tensors that are 0 on both sides agree, and the verdict says that they were not put to the test."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import check_gradients
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.testing import UndecidedGradientError, WrongGradientError

WAYS = [{}, {"fast": True}]


class Normalised:
    """A dense layer below batch normalisation, whose bias has a gradient of 0 by symmetry."""

    def __init__(self, upstream):
        rng = np.random.default_rng(0)
        self.upstream = upstream(rng)
        self.x = rng.normal(size=(9, 4))
        self.parameters = {
            "w": rng.normal(size=(4, 5)),
            "bias": rng.normal(size=5),
            "beta": rng.normal(size=5),
        }

    def __call__(self, p, forgets_a_term=False):
        z = self.x @ p["w"] + p["bias"]
        centred = z - z.mean(axis=0)
        deviation = np.sqrt((centred**2).mean(axis=0) + 1e-5)
        normal = centred / deviation
        d = self.upstream
        term = 0.0 if forgets_a_term else normal * (d * normal).mean(axis=0)
        dz = (d - d.mean(axis=0) - term) / deviation
        gradients = {"w": self.x.T @ dz, "bias": dz.sum(axis=0), "beta": d.sum(axis=0)}
        return ((normal + p["beta"]) * d).sum(), gradients


def drawn(rng):
    return rng.normal(size=(9, 5))


def ones(rng):
    return np.ones((9, 5))


@pytest.mark.parametrize("how", WAYS)
def test_a_gradient_that_is_0_by_symmetry_agrees_and_is_named(how):
    layer = Normalised(drawn)
    report = check_gradients(layer, layer.parameters, **how)
    assert report.untested == ("bias",)
    assert "bias was not put to the test: 0 on both sides" in sentence(report)


@pytest.mark.parametrize("how", WAYS)
def test_with_strict_a_zero_gradient_is_undecided(how):
    layer = Normalised(drawn)
    with pytest.raises(UndecidedGradientError, match="bias was not put to the test"):
        check_gradients(layer, layer.parameters, strict=True, **how)


@pytest.mark.parametrize("how", WAYS)
def test_an_upstream_of_ones_hides_a_mistake_and_the_verdict_says_where(how):
    hidden, seen = Normalised(ones), Normalised(drawn)
    report = check_gradients(lambda p: hidden(p, forgets_a_term=True), hidden.parameters, **how)
    assert report.untested == ("w", "bias")
    assert "w and bias were not put to the test" in sentence(report)
    with pytest.raises(WrongGradientError):
        check_gradients(lambda p: seen(p, forgets_a_term=True), seen.parameters, **how)


@pytest.mark.parametrize("how", WAYS)
def test_a_gradient_of_0_where_there_is_one_is_wrong(how):
    layer = Normalised(drawn)

    def forgotten(p):
        loss, gradients = layer(p)
        return loss, gradients | {"beta": np.zeros(5)}

    with pytest.raises(WrongGradientError):
        check_gradients(forgotten, layer.parameters, **how)


def test_if_all_tensors_are_tested_there_is_no_note():
    layer = Normalised(drawn)
    report = check_gradients(layer, layer.parameters, only=["w", "beta"], strict=True)
    assert report.untested == ()
    assert "not tested" not in sentence(report)
