"""Arrays of a file with the author's own names and layout."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ruamel.yaml import YAML

from gradcheck_cli.arrays.named_arrays import Dialect, read_array_file, read_fitting, read_named
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.arrays import ArrayFile

SHAPES = {"hidden1.weight": (3, 4), "hidden1.bias": (3,), "output.weight": (2, 3), "output.bias": (2,)}
NAMES = {"fc1.weight": "hidden1.weight", "b1": "hidden1.bias", "W2": "output.weight", "b2": "output.bias"}
FILE, NAMED = ("parameters", "file"), ("parameters", "names")


def ours():
    rng = np.random.RandomState(0)
    return {name: rng.randn(*shape) for name, shape in SHAPES.items()}


@pytest.fixture
def source(tmp_path):
    """Return a function that writes arrays and names them in a spec."""

    def write(arrays, **spec):
        np.savez(tmp_path / "w.npz", **arrays)
        return ArrayFile(file=tmp_path / "w.npz", **spec)

    return write


def theirs(names=NAMES, layout="out_in"):
    return Dialect(ArrayFile(file="w.npz", names=names, layout=layout), "parameters").theirs(ours())


def refused(source, **options):
    with pytest.raises(InputError) as caught:
        read_fitting(source, "parameters", "parameter", SHAPES, **options)
    return [(complaint.message, complaint.where, complaint.help) for complaint in caught.value.complaints]


# --- what a path is --------------------------------------------------------------------------------------


def test_the_reader_depends_on_the_kind_of_path(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    np.save(tmp_path / "folder.npz" / "a.npy", 1.0)
    np.savez(tmp_path / "b", b=1.0)
    np.savez(tmp_path / "weights", c=1.0)
    (tmp_path / "weights.npz").rename(tmp_path / "weights")
    assert list(read_array_file(tmp_path / "folder.npz", FILE)) == ["a"]
    assert list(read_array_file(tmp_path / "b.npz", FILE)) == ["b"]
    assert list(read_array_file(tmp_path / "weights", FILE)) == ["c"]


def test_safetensors_are_known_by_their_suffix(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(ours(), tmp_path / "w.safetensors")
    read = read_array_file(tmp_path / "w.safetensors", FILE)
    assert {name: array.shape for name, array in read.items()} == SHAPES


def test_a_single_array_is_refused_with_what_is_needed(tmp_path):
    np.save(tmp_path / "a.npy", 1.0)
    with pytest.raises(InputError, match=r"'a.npy' is a single array; expected an .npz file"):
        read_array_file(tmp_path / "a.npy", FILE)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\ud800"])
def test_an_impossible_path_is_bad_input(tmp_path, name):
    with pytest.raises(InputError):
        read_array_file(tmp_path / name, FILE)


# --- names and layout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("names", [{}, NAMES, {"W2": "output.weight"}], ids=["ours", "theirs", "mixed"])
def test_arrays_are_returned_with_gradchecks_names_and_layout(source, names, layout):
    read = read_fitting(
        source(theirs(names, layout), names=names, layout=layout), "parameters", "parameter", SHAPES
    )
    assert set(read) == set(SHAPES)
    for name, array in ours().items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].flags.c_contiguous


def test_only_weights_are_transposed_in_the_authors_layout():
    turned = theirs(layout="in_out")
    assert {name: array.shape for name, array in turned.items()} == {
        "fc1.weight": (4, 3), "b1": (3,), "W2": (3, 2), "b2": (2,),
    }  # fmt: skip


def test_names_may_be_exchanged(source):
    names = {"hidden1.bias": "output.bias", "output.bias": "hidden1.bias"}
    read = read_named(source({"hidden1.bias": [1.0], "output.bias": [2.0]}, names=names), "parameters")
    assert (read["hidden1.bias"], read["output.bias"]) == ([2.0], [1.0])


def test_without_a_network_any_name_and_any_shape_will_do(source):
    arrays = {"w.weight": np.zeros((2, 3)), "conv.weight": np.zeros((2, 3, 4)), "x": np.zeros((2, 3))}
    read = read_named(source(arrays, names={"x": "whatever"}, layout="in_out"), "parameters")
    assert {name: array.shape for name, array in read.items()} == {
        "w.weight": (3, 2), "conv.weight": (2, 3, 4), "whatever": (2, 3),
    }  # fmt: skip


# --- what cannot be --------------------------------------------------------------------------------------


def test_a_name_missing_in_the_file_is_reported_at_its_place(source):
    names = {**NAMES, "fc1.wieght": "hidden1.weight"}
    del names["fc1.weight"]
    assert refused(source(theirs(), names=names)) == [
        (
            "w.npz has no array 'fc1.wieght'; it holds fc1.weight, b1, W2, b2",
            (*NAMED, "fc1.wieght"),
            "did you mean 'fc1.weight'?",
        )
    ]


def test_a_name_may_be_missing_in_the_file_if_nobody_needs_it(source):
    arrays = {name: array for name, array in theirs().items() if name in ("W2", "b2")}
    needed = ["output.weight", "output.bias"]
    read = read_fitting(source(arrays, names=NAMES), "parameters", "parameter", SHAPES, needed)
    assert list(read) == needed


def test_an_unknown_parameter_is_reported_at_its_place(source):
    names = {**NAMES, "fc1.weight": "hiden1.weight", "b1": "qqq"}
    first, second = refused(source(theirs(), names=names))
    assert first == (
        "'hiden1.weight' is not a parameter",
        (*NAMED, "fc1.weight"),
        "did you mean 'hidden1.weight'?",
    )
    assert second == (
        "'qqq' is not a parameter",
        (*NAMED, "b1"),
        "the parameters are hidden1.weight, hidden1.bias, output.weight, output.bias",
    )


def test_two_names_for_one_parameter_are_refused(source):
    names = {**NAMES, "again": "hidden1.weight"}
    message = "'fc1.weight' and 'again' both stand for 'hidden1.weight'"
    assert refused(source(theirs(), names=names)) == [(message, (*NAMED, "again"), None)]
    with pytest.raises(InputError, match="both stand for"):
        read_named(source(theirs(), names=names), "parameters")


def test_two_arrays_for_one_parameter_are_refused(source):
    arrays = {**theirs(), "hidden1.bias": np.zeros(3)}
    message = "'names' maps 'b1' to 'hidden1.bias', but the file has an array of each name"
    assert refused(source(arrays, names=NAMES)) == [(message, (*NAMED, "b1"), None)]


def test_a_parameter_name_used_for_another_leaves_its_own_without_a_source(source):
    names = {"hidden1.bias": "output.bias"}
    assert refused(source(ours(), names=names)) == [
        (
            (
                "'names' maps 'hidden1.bias' to 'output.bias', but maps no array to the network's own "
                "'hidden1.bias'"
            ),
            (*NAMED, "hidden1.bias"),
            "add an entry for 'hidden1.bias': NAME_IN_FILE: hidden1.bias",
        )
    ]


def test_shapes_are_reported_in_the_authors_names_and_layout(source):
    arrays = {
        **theirs(layout="in_out"),
        "W2": np.zeros((3, 5)),
        "b1": np.zeros((3, 1, 1)),
        "extra": np.zeros(1),
    }
    del arrays["b2"]
    arrays["bb2"] = np.zeros(2)
    names = {name: of for name, of in NAMES.items() if name != "b2"}
    assert [message for message, *_ in refused(source(arrays, names=names, layout="in_out"))] == [
        "w.npz uses names that the network does not have: bb2",
        "the parameter for 'b1' has shape [3, 1, 1], not [3]",
        "the parameter for 'W2' has shape [3, 5], not [3, 2]",
        "'extra' is not a parameter",
    ]


@pytest.mark.parametrize(
    ("said", "stored", "help"),
    [
        (
            "out_in",
            "in_out",
            "weights are [out, in], as in PyTorch; use the array's .T, or add 'layout: in_out'",
        ),
        (
            "in_out",
            "out_in",
            "with 'layout: in_out', weights are [in, out]; use the array's .T, or leave 'layout' out",
        ),
    ],
)
def test_the_other_layout_is_named_as_such(source, said, stored, help):
    arrays = theirs(layout=stored)
    first, second = refused(source(arrays, names=NAMES, layout=said))
    shapes = (str(list(arrays["fc1.weight"].shape)), str(list(arrays["fc1.weight"].shape[::-1])))
    message = "the parameter for 'fc1.weight' has shape {}, not {}: it is transposed".format(*shapes)
    assert first == (message, FILE, help)
    assert second[0].startswith("the parameter for 'W2' has shape")


def test_biases_that_are_columns_or_rows_are_vectors(source):
    columns = {**ours(), "hidden1.bias": ours()["hidden1.bias"][:, None]}
    rows = {**ours(), "output.bias": ours()["output.bias"][None]}
    for arrays in (columns, rows):
        read = read_fitting(source(arrays), "parameters", "parameter", SHAPES)
        for name, array in ours().items():
            np.testing.assert_array_equal(read[name], array)


# --- names of the author's own that the spec does not tell -----------------------------------------------


def line_to_paste(help):
    """Return the line that the help says to add under the section."""
    return YAML(typ="safe", pure=True).load(
        f"{{{re.search('(names: {.*}(?:, layout: [a-z_]+)?)', help)[1]}}}"
    )


STRANGE = ["W 1", "yes", "1", "{b}"]


@pytest.mark.parametrize("names", [["W1", "b1", "W2", "b2"], STRANGE])
@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("bias", [(-1,), (-1, 1), (1, -1)])
def test_arrays_are_matched_by_shape_and_the_suggested_line_works(names, layout, bias, source):
    called = dict(zip(names, SHAPES, strict=True))
    arrays = {
        name: array if array.ndim == 2 else array.reshape(bias)
        for name, array in theirs(called, layout).items()
    }
    ((message, where, help),) = refused(source(arrays))
    assert message.startswith("w.npz uses names that the network does not have: ")
    assert where == FILE
    said = line_to_paste(help)
    assert said == {"names": called} | ({} if layout == "out_in" else {"layout": layout})
    read = read_fitting(source(arrays, **said), "parameters", "parameter", SHAPES)
    for name, array in ours().items():
        np.testing.assert_array_equal(read[name], array)


def test_names_already_in_the_spec_stay_in_the_suggested_line(source):
    ((_, _, help),) = refused(source(theirs(), names={"W2": "output.weight", "b2": "output.bias"}))
    assert line_to_paste(help) == {"names": NAMES}


def test_arrays_of_equal_shape_are_matched_in_order_with_a_warning(source):
    shapes = {"output.weight": (3, 3), "output.bias": (3,), "hidden1.weight": (3, 3), "hidden1.bias": (3,)}
    called = {"A": "hidden1.weight", "a": "hidden1.bias", "B": "output.weight", "b": "output.bias"}
    arrays = {name: np.zeros(shapes[of]) for name, of in called.items()}
    with pytest.raises(InputError) as caught:
        read_fitting(source(arrays), "parameters", "parameter", shapes)
    (complaint,) = caught.value.complaints
    assert line_to_paste(complaint.help) == {"names": called}
    assert "check A, B, a, b:" in complaint.help


def test_optional_arrays_are_matched_by_shape_too(source):
    arrays = {"W1": np.zeros((3, 4)), "W2": np.zeros((2, 3)), "other": np.zeros((7, 7))}
    first, second = refused(source(arrays), needed=["output.weight"])
    assert line_to_paste(first[2]) == {"names": {"W1": "hidden1.weight", "W2": "output.weight"}}
    assert second[0] == "'other' is not a parameter"


def test_a_file_that_holds_none_of_the_arrays_is_one_error_that_says_what_is_needed(source):
    ((message, _, help),) = refused(source({"W": np.zeros((7, 7))}))
    assert message == "w.npz holds none of the parameters: it holds W"
    assert all(f"{name} {list(shape)}" in help for name, shape in SHAPES.items())
