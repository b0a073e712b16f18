"""Masks, initial states and running statistics that a spec gives to its layers, as lists or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from build import right_gradients, spec_of

from gradcheck_cli import Verdict, check
from gradcheck_cli.errors import InputError
from gradcheck_cli.network.graph import run
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.problem.named_files import refuse_absent_files
from gradcheck_cli.problem.problem import Problem, build_problem

HEAD = {"units": 2}


def problem(*layers: Any, inputs: Any = (3, 4), **rest: Any) -> Problem:
    return build_problem(spec_of(*layers, HEAD, inputs=list(inputs), loss="mse", **rest))


def saved(path: Path, **arrays: Any) -> dict[str, str]:
    np.savez(path, **arrays)
    return {"file": str(path)}


# --- where the numbers come from ---------------------------------------------------------------------------


def test_a_file_and_a_list_give_the_same_array(tmp_path):
    masks = np.array([[0, 1, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]]) > 0
    file = saved(tmp_path / "masks.npz", key_padding_mask=masks, other=1 - masks, x=np.zeros(3))
    found = [
        right_gradients(problem({"attention": 2, "key_padding_mask": source}))
        for source in (file, {**file, "array": "other"}, masks.tolist(), masks.astype(float).tolist())
    ]
    for name, gradient in found[0].items():
        assert (gradient != found[1][name]).any() or "bias" in name
        np.testing.assert_array_equal(gradient, found[2][name])
        np.testing.assert_array_equal(gradient, found[3][name])


@pytest.mark.parametrize("kind", ["m.npy", "m.npz", "m.safetensors", "folder"])
def test_a_mask_may_come_from_a_file_of_any_kind(tmp_path, kind):
    mask, at = (np.random.default_rng(3).random((5, 4)) < 0.6).astype(float), tmp_path / kind
    if kind == "m.safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"mask": mask}, at)
    elif kind == "folder":
        at.mkdir()
        np.save(at / "mask.npy", mask)
    else:
        np.save(at, mask) if kind == "m.npy" else np.savez(at, mask=mask)
    part = problem({"units": 4}, {"dropout": 0.5, "mask": {"file": str(at)}}, inputs=[4])
    (given,) = (node.step for node in part.network.graph.nodes if isinstance(node.step, Given))
    np.testing.assert_array_equal(given.value, mask)


def test_the_only_array_of_an_npy_file_has_no_name(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((5, 4)))
    source = {"file": str(tmp_path / "m.npy"), "array": "mask"}
    with pytest.raises(InputError, match="holds a single array, which has no name"):
        problem({"units": 4}, {"dropout": 0.5, "mask": source})


def test_a_row_for_each_sample_of_the_data_file_goes_with_its_sample(tmp_path):
    rng = np.random.default_rng(0)
    masks = (rng.random((9, 4)) < 0.6).astype(float)
    file = saved(tmp_path / "all.npz", x=rng.normal(size=(9, 4)), y=rng.normal(size=(9, 2)), mask=masks)
    layers = [{"units": 4, "activation": "tanh"}, {"dropout": 0.5, "mask": file}]
    part = problem(*layers, inputs=[4], data={**file, "start": 3, "batch": 4})
    (given,) = (node.step for node in part.network.graph.nodes if isinstance(node.step, Given))
    np.testing.assert_array_equal(given.value, masks[3:7])
    layers[1]["mask"] = masks[3:7].tolist()
    same = problem(*layers, inputs=[4], data={**file, "start": 3, "batch": 4})
    for name, gradient in right_gradients(same).items():
        np.testing.assert_array_equal(gradient, right_gradients(part)[name])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_numbers_are_those_of_the_dtype(dtype):
    at = problem({"gru": 2, "h0": [[[0.1, 0.2]] * 5]}, dtype=dtype)
    (given,) = (node.step for node in at.network.graph.nodes if isinstance(node.step, Given))
    assert given.value.dtype == np.float64
    assert given.value[0, 0, 0] == np.dtype(dtype).type(0.1)


def test_a_given_array_is_as_precise_as_x():
    """Otherwise everything above it would be computed in float64, too."""
    at = problem({"gru": 2, "h0": [[[0.1, 0.2]] * 5]})
    for dtype in (np.float32, np.longdouble):
        own = {name: value.astype(dtype) for name, value in at.parameters.items()}
        values = run(at.network.graph, own, at.x.astype(dtype))
        assert {value.dtype for value in values} == {np.dtype(dtype)}


def test_every_file_is_looked_for(tmp_path):
    absent = {"file": str(tmp_path / "absent.npz")}
    spec = spec_of(
        {"units": 3, "batch_norm": {"running_mean": absent, "running_var": absent}},
        {"residual": [{"dropout": 0.5, "mask": absent}]},
        HEAD,
    )
    with pytest.raises(InputError) as caught:
        refuse_absent_files(spec)
    assert [complaint.where[2:] for complaint in caught.value.complaints] == [
        (0, "batch_norm", "running_mean", "file"),
        (0, "batch_norm", "running_var", "file"),
        (1, "residual", 0, "mask", "file"),
    ]


# --- what does not fit -------------------------------------------------------------------------------------

NORM = {"units": 3, "batch_norm": {"running_mean": [0, 0, 0], "running_var": [1, 1, 1]}}


@pytest.mark.parametrize(
    ("layer", "message", "place"),
    [
        (
            {"attention": 2, "key_padding_mask": [[0, 1]]},
            r"has shape \[1, 2\]; \[samples, 3\] is needed",
            ("key_padding_mask",),
        ),
        (
            {"attention": 2, "key_padding_mask": [[0, 2, 0]]},
            "holds numbers other than 0 and 1",
            ("key_padding_mask",),
        ),
        (
            {"attention": 2, "causal": True, "key_padding_mask": [[0, 1, 1], [1, 0, 0]]},
            "every key that token 0 of sample 1 may see is padding",
            ("key_padding_mask",),
        ),
        (
            {"attention": 2, "key_padding_mask": [[0, 1, 0]] * 4},
            "has rows for 4 samples; the batch has 5",
            ("key_padding_mask",),
        ),
        (
            {"attention": 2, "key_padding_mask": [[0, 1, 0], [0, 1]]},
            "the rows have different lengths",
            ("key_padding_mask",),
        ),
        ({"attention": 4, "rotary": True}, "each head has the width 1", ("rotary",)),
        ({"permute": [1, 0]}, None, ()),
        ({"lstm": 2, "c0": [[1, 2], [3, 4]]}, r"c0 has shape \[2, 2\]; \[1, samples, 2\] is needed", ("c0",)),
        ({"lstm": 2, "h0": [[1, 2, 3]]}, r"h0 has shape \[1, 3\]", ("h0",)),
        (
            {"dropout": 0.5, "mask": [[1, 0]]},
            r"mask has shape \[1, 2\]; \[samples, 3, 4\] is needed",
            ("mask",),
        ),
        (
            {"dropout": 0.5, "mask": [[2, 0, 0, 2], [0, 0, 2, 0], [2, 2, 2, 0]]},
            "mask contains 2; it must be 0 or 1 in every entry",
            ("mask",),
        ),
        (
            {"dropout": 0.5, "mask": [[2, 0, 0, 2], [0, 0, 2, 0], [2, 2, 2, 0]], "inverted": False},
            None,
            (),
        ),
        (
            {**NORM, "batch_norm": {"running_mean": [0, 0, 0]}},
            "running_var is missing",
            ("batch_norm",),
        ),
        (
            {**NORM, "batch_norm": {"running_mean": [0, 0], "running_var": [1, 1, 1]}},
            r"running_mean has shape \[2\]; \[3\] is needed",
            ("batch_norm",),
        ),
        (
            {**NORM, "batch_norm": {"running_mean": [0, 0, 0], "running_var": [1, -1, 1]}},
            "running_var holds negative numbers",
            ("batch_norm",),
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_where_they_are(layer, message, place):
    if message is None:
        problem(layer)
        return
    with pytest.raises(InputError, match=message) as caught:
        problem(layer)
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", 0, *place)
    assert complaint.help or "different" in message or "running" in message


def test_a_file_without_the_array_says_what_it_holds(tmp_path):
    file = saved(tmp_path / "s.npz", h=np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"s.npz has no array 'h0'; it holds h") as caught:
        problem({"gru": 2, "h0": file})
    assert caught.value.complaints[0].where == ("network", "layers", 0, "h0", "file")
    with pytest.raises(InputError, match=r"s.npz has no array 'hid'") as caught:
        problem({"gru": 2, "h0": {**file, "array": "hid"}})
    assert caught.value.complaints[0].where == ("network", "layers", 0, "h0", "array")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    file = saved(tmp_path / "s.npz", h0=np.array([[np.nan, 1.0]]))
    with pytest.raises(InputError, match="'h0' must hold at least one number, and only finite numbers"):
        problem({"gru": 2, "h0": file})


def weighted(weights, **rest):
    loss = {"name": "cross_entropy", "sample_weight": weights}
    return spec_of({"units": 3, "activation": "tanh"}, {"units": 3}, loss=loss, **rest)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2, 3], r"sample_weight has shape \[3\]; \[5\] is needed"),
        ([[1, 2, 3, 4, 5]], r"sample_weight has shape \[1, 5\]; \[5\] is needed"),
        ([1, 2, -3, 4, 5], "sample_weight holds negative numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(InputError, match=message) as caught:
        build_problem(weighted(weights))
    assert caught.value.complaints[0].where == ("network", "loss", "sample_weight")


def test_weights_of_samples_go_with_the_batch(tmp_path):
    rng = np.random.default_rng(0)
    file = saved(tmp_path / "all.npz", x=rng.normal(size=(9, 4)), y=np.arange(9) % 3, w=np.arange(9.0))
    data = {**file, "start": 3, "batch": 4}
    found = build_problem(weighted({**file, "array": "w"}, data=data))
    np.testing.assert_array_equal(found.sample_weight, np.arange(3.0, 7.0)[:, None])
    same = build_problem(weighted([3, 4, 5, 6], data=data))
    np.testing.assert_array_equal(found.target, same.target)
    assert check(weighted({**file, "array": "w"}, data=data)).verdict is Verdict.AGREES


# --- what they do ------------------------------------------------------------------------------------------


def test_fixed_statistics_let_no_sample_act_on_another():
    spec = spec_of(NORM, HEAD, inputs=4, loss="mse")
    at = build_problem(spec)
    assert not at.network.graph.couples_above(0)
    assert check(spec).verdict is Verdict.AGREES


@pytest.mark.parametrize("layer", [{"maxout": 2, "pieces": 2}, {"units": 2, "weight_norm": True}])
def test_parameters_are_drawn_for_new_layers(layer):
    at = build_problem(spec_of(layer, HEAD).model_copy(update={"parameters": None}))
    own = {name: value for name, value in at.parameters.items() if not name.startswith("output")}
    assert all(np.isfinite(value).all() for value in own.values())
    assert all((value == 1).all() for name, value in own.items() if name.endswith("_g"))


def test_a_tied_weight_is_not_normalised():
    layers = [{"embedding": 5, "embedding_dim": 4}, {"units": 5, "weight": "embedding1", "weight_norm": True}]
    with pytest.raises(InputError, match="a weight of another layer cannot be normalised"):
        build_problem(spec_of(*layers, inputs=3, loss="cross_entropy"))


def test_a_single_number_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", sample_weight=np.float64(2.0))
    loss = {"name": "cross_entropy", "sample_weight": {"file": str(tmp_path / "a.npz")}}
    with pytest.raises(
        InputError, match="array 'sample_weight' is a single number; a list of numbers is needed"
    ):
        build_problem(spec_of((3, "identity"), inputs=4, loss=loss))


MASK = np.zeros((2, 3, 3))
HIDDEN = np.broadcast_to([False, True, True], MASK.shape)


@pytest.mark.parametrize(
    ("mask", "padding", "message"),
    [
        (np.zeros((4, 3, 3)), [[0, 0, 0]], r"\[3, 3\] or, per head, \[2, 3, 3\] is needed"),
        (np.where(np.eye(3)[:, :1] + MASK == 1, -np.inf, 0.0), [[0, 0, 0]], "hides every key from token 0"),
        (np.where(HIDDEN, -np.inf, 0.0), [[1, 0, 0]], "token 0 of sample 0 may see is padding"),
    ],
)
def test_a_mask_of_each_head_fits_and_leaves_every_token_a_key(mask, padding, message):
    layer = {"attention": 2, "attn_mask": mask.tolist(), "key_padding_mask": padding}
    with pytest.raises(InputError, match=message):
        build_problem(spec_of(layer, "flatten", {"units": 1}, inputs=[3, 4], samples=1))
