"""Checks of networks with every kind of layer: right gradients agree, and wrong ones are found."""

from __future__ import annotations

import numpy as np
import pytest
from build import spec_of
from layer_kinds import KINDS
from spoilt import assert_an_error_in_any_tensor_is_wrong

from gradcheck_cli.checker import check
from gradcheck_cli.errors import InputError
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.verdict import Verdict
from tests.network.step_kinds import Draw

SEEDS = range(4)


def spec(kind, seed, **rest):
    return KINDS[kind](Draw(seed)).spec(seed, **rest)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_right_gradients_agree(kind, dtype):
    for seed in SEEDS:
        report = check(spec(kind, seed, dtype=dtype))
        assert report.verdict is Verdict.AGREES, seed
        assert {c.name for c in report.comparisons} == set(build_problem(spec(kind, seed)).network.shapes)


@pytest.mark.parametrize("kind", KINDS)
def test_literal_differences_agree(kind):
    assert check(spec(kind, 5, check={"differences": "literal"})).verdict is Verdict.AGREES


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_in_any_tensor_is_wrong(kind):
    for seed in SEEDS:
        assert_an_error_in_any_tensor_is_wrong(spec(kind, seed))


@pytest.mark.parametrize(
    ("layers", "inputs", "message", "place"),
    [
        (
            [{"avg_pool2d": 2}],
            4,
            r"needs images \[channels, height, width\]; it gets \[4\]",
            (0, "avg_pool2d"),
        ),
        ([{"avg_pool2d": 3, "padding": 2}], [1, 5, 5], "more than half the window", (0, "padding")),
        ([{"avg_pool2d": 6}], [1, 5, 5], "does not fit into images of 5 × 5", (0, "avg_pool2d")),
        ([{"adaptive_avg_pool2d": 1}], [2, 3], "pooling needs images", (0, "adaptive_avg_pool2d")),
        ([{"adaptive_avg_pool2d": 1}, {"units": 2}], [1, 5, 5], "samples of 1 × 1 × 1", (1,)),
        (
            [{"conv1d": 2, "kernel": 2}],
            4,
            r"needs sequences \[channels, length\]; it gets \[4\]",
            (0, "conv1d"),
        ),
        ([{"conv1d": 2, "kernel": 5}], [2, 4], "does not fit into sequences of 4", (0, "kernel")),
        (
            [{"conv1d": 3, "kernel": 1, "groups": 2}],
            [2, 4],
            "3 channels cannot be split into 2",
            (0, "groups"),
        ),
        ([{"conv_transpose2d": 1, "kernel": 2}], [2, 4], "needs images", (0, "conv_transpose2d")),
        (
            [{"conv_transpose2d": 1, "kernel": 2, "output_padding": 1}],
            [2, 4, 4],
            "output_padding must be less than the stride or the dilation",
            (0, "output_padding"),
        ),
        (
            [{"conv_transpose2d": 1, "kernel": 2, "padding": 3}],
            [2, 4, 4],
            "the padding cuts off the whole output",
            (0, "padding"),
        ),
        ([{"rms_norm": 5}], 4, r"the last axes of \[4\] are not \[5\]", (0, "rms_norm")),
        ([{"group_norm": 2}], 3, "3 channels cannot be split into 2 groups", (0, "group_norm")),
        (
            [{"group_norm": 3}],
            3,
            r"in samples of shape \[3\], each of 3 groups has a single value",
            (0, "group_norm"),
        ),
        ([{"prelu": True, "num_parameters": 2}], [3, 4], r"has 3 channels", (0, "num_parameters")),
        (["mean"], 4, r"samples of shape \[4\] have a single axis", (0, "mean")),
        ([{"mean": True, "dim": 2}], [3, 4], r"\[3, 4\] have the axes 0 to 1", (0, "dim")),
        ([{"select": 3}], [3, 4], r"axis 0 of samples of shape \[3, 4\] has length 3", (0, "select")),
        ([{"permute": [0, 0]}], [3, 4], "does not name each axis", (0, "permute")),
        ([{"reshape": [5, -1]}], [3, 4], "with 12 values, do not fit into", (0, "reshape")),
        ([{"reshape": [-1, -1]}], [3, 4], "with 12 values, do not fit into", (0, "reshape")),
        ([{"reshape": [0, 12]}], [3, 4], "with 12 values, do not fit into", (0, "reshape")),
        ([{"reshape": [2, 3]}], [3, 4], "with 12 values, do not fit into", (0, "reshape")),
        (
            ["instance_norm"],
            3,
            r"in samples of shape \[3\], each of 3 groups has a single value",
            (0, "instance_norm"),
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_where_they_are(layers, inputs, message, place):
    with pytest.raises(InputError, match=message) as caught:
        build_problem(spec_of(*layers, {"units": 2}, inputs=inputs))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", *place)


def test_the_unbiased_variance_of_one_number_is_refused():
    layer = {"units": 3, "batch_norm": {"unbiased": True}}
    with pytest.raises(InputError, match="a single number has no unbiased variance") as caught:
        build_problem(spec_of(layer, {"units": 2}, samples=1))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", 0, "batch_norm", "unbiased")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rms_norm_without_eps_has_the_machine_epsilon_of_the_dtype(dtype):
    problem = build_problem(spec_of("rms_norm", {"units": 2}, dtype=dtype))
    step = problem.network.graph.nodes[0].step
    assert step.eps == np.finfo(dtype).eps


def test_scales_start_at_1_and_slopes_at_a_quarter():
    layers = ["rms_norm", "prelu", {"prelu": True, "init": 0.1}, {"units": 2}]
    described = spec_of(*layers).model_copy(update={"parameters": None})
    parameters = build_problem(described).parameters
    for name, start in {"rms_norm1": 1.0, "prelu1": 0.25, "prelu2": 0.1}.items():
        assert (parameters[f"{name}.weight"] == start).all()


def test_the_mask_of_dropout_depends_on_its_seed_alone():
    steps = [
        build_problem(spec_of({"dropout": 0.5, "seed": seed}, {"units": 2}, inputs=50, seed=other))
        .network.graph.nodes[0]
        .step
        for seed, other in ((1, 0), (1, 9), (2, 0))
    ]
    assert (steps[0].mask == steps[1].mask).all()
    assert (steps[0].mask != steps[2].mask).any()
    assert set(np.unique(steps[0].mask)) == {0.0, 2.0}


def test_a_dense_layer_takes_permuted_images():
    """Channels last, the units of a dense layer are the channels; [3, 3, 3] keeps its shape."""
    build_problem(spec_of({"permute": [1, 2, 0]}, {"units": 2}, inputs=[3, 3, 3], loss="mse"))
