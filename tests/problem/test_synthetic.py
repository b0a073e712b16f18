"""Synthetic data have the shapes and values that a network needs."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from gradcheck_cli import InputError
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.problem.synthetic import KINDS, TOKENS
from gradcheck_cli.spec.data import SyntheticData
from gradcheck_cli.spec.spec import Spec

CONV = [{"conv2d": 2, "kernel": 3}, "flatten", {"units": 3}]
LSTM = [{"lstm": 3}, {"units": 3}]
TEXT = [{"embedding": 9, "embedding_dim": 4}, {"units": 9}]


def problem(inputs: object, layers: list[object], synthetic: str, **data: object) -> Problem:
    data = {"synthetic": synthetic, "samples": 50, **data}
    network = {"inputs": inputs, "layers": layers, "loss": "cross_entropy"}
    return build_problem(Spec.model_validate({"network": network, "data": data}))


def test_every_kind_of_the_spec_can_be_drawn():
    assert {*get_args(SyntheticData.model_fields["synthetic"].annotation)} == {*KINDS, TOKENS}


def test_images_have_grey_levels_a_background_and_equal_neighbours():
    x = problem([2, 8, 8], CONV, "images", scale=4.0).x
    assert x.shape == (50, 2, 8, 8)
    assert x.min() == 0.0
    assert 2.0 < x.max() <= 4.0
    assert set(np.unique(x)) <= set(4.0 * np.arange(17) / 16)
    assert 0.1 < (x == 0).mean() < 0.9
    assert (x[..., 1:] == x[..., :-1]).mean() > 0.1
    assert len({image.tobytes() for image in x}) == 50


def test_sequences_are_smooth_and_different():
    x = problem([6, 4], LSTM, "sequences", scale=3.0).x
    assert x.shape == (50, 6, 4)
    assert 2.0 < np.abs(x).max() <= 3.0
    assert np.abs(np.diff(x, 2, axis=1)).max() <= 3.0 * 1.5**2
    assert len({sequence.tobytes() for sequence in x}) == 50


def test_tokens_repeat_and_labels_are_the_next_tokens():
    of = problem(6, TEXT, TOKENS)
    counts = np.bincount(of.x.astype(int).ravel(), minlength=9)
    assert counts[0] > 3 * counts[8] > 0
    np.testing.assert_array_equal(of.y[:, :-1], of.x[:, 1:])


def test_tokens_for_a_classifier_get_labels_of_its_classes():
    of = problem(6, [TEXT[0], "mean", {"units": 3}], TOKENS)
    assert of.y.shape == (50,)
    assert set(of.y) == {0, 1, 2}


@pytest.mark.parametrize(
    ("inputs", "layers", "kind"),
    [([2, 8, 8], CONV, "images"), ([6, 4], LSTM, "sequences"), (6, TEXT, TOKENS)],
)
def test_the_seed_decides(inputs, layers, kind):
    first, again, other = (problem(inputs, layers, kind, seed=seed) for seed in (1, 1, 2))
    assert (first.x == again.x).all()
    assert (first.target == again.target).all()
    assert (first.x != other.x).any()


@pytest.mark.parametrize(
    ("inputs", "layers", "kind", "message"),
    [
        (
            4,
            [{"units": 2}],
            "images",
            "synthetic images are [channels, height, width], but the network's inputs are 4",
        ),
        (
            [6, 4],
            LSTM,
            "images",
            "synthetic images are [channels, height, width], but the network's inputs are [6, 4]",
        ),
        (
            [2, 8, 8],
            CONV,
            "sequences",
            "synthetic sequences are [steps, features], but the network's inputs are [2, 8, 8]",
        ),
        (
            6,
            TEXT,
            "sequences",
            "the network's first layer is an embedding, which takes tokens, not sequences",
        ),
        (4, [{"units": 2}], TOKENS, "synthetic tokens need a network whose first layer is an embedding"),
    ],
)
def test_a_kind_that_does_not_fit_the_network_is_refused(inputs, layers, kind, message):
    with pytest.raises(InputError) as caught:
        problem(inputs, layers, kind)
    (complaint,) = caught.value.complaints
    assert complaint.message == message
    assert complaint.where == ("data", "synthetic")
    assert "synthetic: " in complaint.help


def stored(tmp_path, shape: tuple[int, ...], inputs: list[int], **data: object) -> Problem:
    x = np.random.default_rng(0).normal(size=(6, *shape))
    np.savez(tmp_path / "batch.npz", x=x, y=np.arange(6) % 3)
    spec = {
        "network": {"inputs": inputs, "layers": ["flatten", {"units": 3}], "loss": "cross_entropy"},
        "data": {"file": str(tmp_path / "batch.npz"), **data},
    }
    return build_problem(Spec.model_validate(spec, context={"folder": tmp_path}))


@pytest.mark.parametrize("shape", [(2, 4, 5), (40,), (1, 2, 4, 5), (2, 20)])
def test_samples_may_be_flat_or_have_axes_of_size_1(tmp_path, shape):
    x = stored(tmp_path, shape, [2, 4, 5]).x
    np.testing.assert_array_equal(x.ravel(), np.load(tmp_path / "batch.npz")["x"].ravel())


@pytest.mark.parametrize(
    ("shape", "inputs", "axes"),
    [
        ((4, 5, 2), [2, 4, 5], "(0, 3, 1, 2)"),
        ((5, 4, 2), [2, 4, 5], "(0, 3, 2, 1)"),
        ((3, 7), [7, 3], "(0, 2, 1)"),
    ],
)
def test_axes_in_another_order_are_refused(tmp_path, shape, inputs, axes):
    with pytest.raises(InputError) as caught:
        stored(tmp_path, shape, inputs)
    (complaint,) = caught.value.complaints
    expected = f"'x' has samples of shape {list(shape)}, but the network's inputs are {inputs}"
    assert complaint.message == expected
    assert complaint.help == f"store x.transpose{axes}, or change 'inputs'"


def test_the_targets_of_an_autoencoder_are_rescaled_like_its_inputs(tmp_path):
    np.savez(tmp_path / "batch.npz", x=np.arange(24).reshape(6, 4))
    spec = {
        "network": {"inputs": 4, "layers": [{"units": 4}], "loss": "mse"},
        "data": {"file": "batch.npz", "x": "x", "y": "x", "rescale": {"from": [0, 23], "to": [-1, 1]}},
    }
    of = build_problem(Spec.model_validate(spec, context={"folder": tmp_path}))
    assert (of.x.min(), of.x.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(of.target, of.x)
