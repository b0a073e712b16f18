"""Initialisers: seeded, distributed as in their papers, with the reference network's exact draws."""

from __future__ import annotations

import numpy as np
import pytest
from new_rows import NEW_INITIALISERS, add_rows

from gradcheck_cli.network.initialisers import INITIALISERS, Sized, initialise

ROWS = (*INITIALISERS, *NEW_INITIALISERS)

SIZES = [
    Sized("hidden1.weight", (200, 300), 300, 200),
    Sized("output.weight", (100, 200), 200, 100),
    Sized("hidden1.bias", (200,), 300, 200, 0.0),
    Sized("output.bias", (100,), 200, 100, 0.0),
]
SHAPES = {
    "hidden1.weight": (200, 300),
    "output.weight": (100, 200),
    "hidden1.bias": (200,),
    "output.bias": (100,),
}


@pytest.fixture(autouse=True)
def more_rows(monkeypatch):
    add_rows(monkeypatch)


def drawn(init, scale=None, seed=0, biases_too=False):
    return initialise(init, scale, seed, biases_too, SIZES)


@pytest.mark.parametrize("biases_too", [False, True])
@pytest.mark.parametrize("init", ROWS)
def test_every_parameter_is_drawn_in_its_shape(init, biases_too):
    parameters = drawn(init, biases_too=biases_too)
    assert {name: value.shape for name, value in parameters.items()} == SHAPES
    assert all(np.isfinite(value).all() and value.dtype == np.float64 for value in parameters.values())


@pytest.mark.parametrize("init", [name for name in ROWS if name != "zeros"])
def test_the_draws_depend_on_the_seed_and_on_nothing_else(init):
    np.random.seed(7)
    first = drawn(init, seed=1, biases_too=True)
    np.random.rand(3)
    again, other = drawn(init, seed=1, biases_too=True), drawn(init, seed=2, biases_too=True)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert (value != other[name]).all()


@pytest.mark.parametrize("init", ROWS)
def test_biases_are_zero_unless_they_are_drawn_too(init):
    plain, both = drawn(init), drawn(init, biases_too=True)
    for name in ("hidden1.bias", "output.bias"):
        assert not plain[name].any()
        assert both[name].any() == (init != "zeros")
    for name in ("hidden1.weight", "output.weight"):
        np.testing.assert_array_equal(plain[name], both[name])


@pytest.mark.parametrize("init", ROWS)
def test_the_scale_multiplies_what_the_initialiser_draws(init):
    default = drawn(init)
    usual = INITIALISERS[init].scale
    np.testing.assert_array_equal(default["output.weight"], drawn(init, usual)["output.weight"])
    np.testing.assert_allclose(
        drawn(init, 3.0 * usual)["output.weight"], 3.0 * default["output.weight"], rtol=1e-14
    )


@pytest.mark.parametrize(
    ("init", "spread", "bound"),
    [
        ("normal", 0.1, np.inf),
        ("uniform", 0.1 / np.sqrt(3), 0.1),
        ("xavier", np.sqrt(2 / (300 + 200)), np.sqrt(6 / (300 + 200))),
        ("he", np.sqrt(2 / 300), np.inf),
        ("zeros", 0.0, 0.0),
    ],
)
def test_weights_are_spread_as_the_papers_say(init, spread, bound):
    weight = drawn(init)["hidden1.weight"]
    assert weight.std() == pytest.approx(spread, rel=0.02)
    assert abs(weight.mean()) <= 4 * spread / np.sqrt(weight.size)
    assert np.abs(weight).max() <= bound


def test_the_table_of_spreads_covers_every_initialiser():
    spreads = next(
        mark for mark in test_weights_are_spread_as_the_papers_say.pytestmark if mark.name == "parametrize"
    )
    assert {row[0] for row in spreads.args[1]} == set(ROWS) - set(NEW_INITIALISERS)


def test_normal_with_seed_123_draws_the_weights_of_the_reference_network():
    """Raschka's NeuralNetMLP draws the hidden weights from RandomState(123) first, then the output's."""
    rng = np.random.RandomState(123)
    hidden, output = rng.normal(0.0, 0.1, (50, 784)), rng.normal(0.0, 0.1, (10, 50))
    sizes = [Sized("hidden1.weight", (50, 784), 784, 50), Sized("output.weight", (10, 50), 50, 10)]
    parameters = initialise("normal", 0.1, 123, False, sizes)
    np.testing.assert_allclose(parameters["hidden1.weight"], hidden, rtol=1e-15)
    np.testing.assert_allclose(parameters["output.weight"], output, rtol=1e-15)
