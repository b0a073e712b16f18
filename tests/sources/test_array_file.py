"""The user's gradients from a file: what is taken as it is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients

from gradcheck_cli.errors import InputError
from gradcheck_cli.sources import SOURCES, read_gradients
from gradcheck_cli.spec import GradientFile

PROBLEM = problem_of((3, "tanh"), (2, "sigmoid"), samples=5)
RIGHT = right_gradients(PROBLEM)
WHERE = ("gradients", "file")


@pytest.fixture
def source(tmp_path):
    return GradientFile(file=tmp_path / "g.npz")


def read(source, problem=PROBLEM, **arrays):
    np.savez(source.file, **arrays)
    return read_gradients(source, problem)


def refused(source, problem=PROBLEM, **arrays):
    with pytest.raises(InputError) as caught:
        read(source, problem, **arrays)
    assert {complaint.where for complaint in caught.value.complaints} == {WHERE}
    return [complaint.message for complaint in caught.value.complaints]


def test_a_gradient_file_is_one_of_the_sources():
    assert GradientFile in SOURCES


def test_the_arrays_are_taken_as_they_are(source):
    analytic = read(source, **RIGHT)
    assert list(analytic.values) == list(PROBLEM.checked)
    for name, value in RIGHT.items():
        np.testing.assert_array_equal(analytic.values[name], value)
    assert (analytic.origin, analytic.factors) == ("g.npz", {})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_a_wrong_gradient_and_no_bad_input(source, number):
    wrong = {**RIGHT, "output.bias": np.full(2, number)}
    np.testing.assert_array_equal(read(source, **wrong).values["output.bias"], [number, number])


@pytest.mark.parametrize(
    ("written", "judged"),
    [
        ("f8", "f8"),
        ("f4", "f4"),
        ("f2", "f2"),
        (">f8", "f8"),
        (">f4", "f4"),
        ("i8", "f8"),
        ("u1", "f8"),
        ("?", "f8"),
    ],
)
def test_each_gradient_is_judged_in_the_type_it_was_computed_in(source, written, judged):
    arrays = {**RIGHT, "output.weight": (10 * RIGHT["output.weight"]).astype(written)}
    analytic = read(source, **arrays)
    np.testing.assert_array_equal(analytic.values["output.weight"], arrays["output.weight"])
    assert analytic.dtypes["output.weight"] == np.dtype(judged)
    assert analytic.dtypes["output.weight"].isnative
    assert analytic.dtypes["output.bias"] == np.float64


@pytest.mark.skipif(np.finfo("g").max == np.finfo("d").max, reason="long double is double here")
def test_extended_precision_is_judged_as_float64_and_may_overflow(source):
    huge = np.full((2, 3), np.longdouble("1e300")) ** 2
    analytic = read(source, **{**RIGHT, "output.weight": huge, "output.bias": np.longdouble([1, 2])})
    assert np.isinf(analytic.values["output.weight"]).all()
    np.testing.assert_array_equal(analytic.values["output.bias"], [1, 2])
    assert set(analytic.dtypes.values()) == {np.dtype(np.float64)}


def test_column_major_arrays_are_read(source):
    arrays = {name: np.asfortranarray(value) for name, value in RIGHT.items()}
    np.testing.assert_array_equal(read(source, **arrays).values["hidden1.weight"], RIGHT["hidden1.weight"])


def test_missing_misshapen_transposed_and_extra_arrays_are_all_named(source):
    arrays = {
        "output.weight": RIGHT["output.weight"].T,
        "output.bias": RIGHT["output.bias"][None],
        "hidden1.wieght": RIGHT["hidden1.weight"],
        "hidden1.bias": RIGHT["hidden1.bias"],
    }
    assert refused(source, **arrays) == [
        "there is no gradient for 'hidden1.weight', of shape [3, 4]",
        "the gradient for 'output.weight' has shape [3, 2], not [2, 3]: it is transposed",
        "the gradient for 'output.bias' has shape [1, 2], not [2]",
        "'hidden1.wieght' is no parameter of this network",
    ]


def test_an_empty_file_misses_everything(source):
    assert len(refused(source)) == 4


def test_what_cannot_be_numbers_is_refused(source):
    (message,) = refused(source, **{**RIGHT, "output.bias": np.array([None, 1], dtype=object)})
    assert "holds pickled objects" in message
    (message,) = refused(source, **{**RIGHT, "output.bias": RIGHT["output.bias"] + 0j})
    assert message == "array 'output.bias' of g.npz holds complex128; real numbers are needed"


def test_a_missing_file_is_refused(source):
    with pytest.raises(InputError) as caught:
        read_gradients(source, PROBLEM)
    (complaint,) = caught.value.complaints
    assert (complaint.message, complaint.where) == (f"there is no file '{source.file}'", WHERE)


# --- only some parameters are checked --------------------------------------------------------------------

OUTPUT_ONLY = problem_of((3, "tanh"), (2, "sigmoid"), samples=5, check={"parameters": "output.*"})


def test_what_is_not_checked_may_be_left_out(source):
    analytic = read(source, OUTPUT_ONLY, **{name: RIGHT[name] for name in OUTPUT_ONLY.checked})
    assert list(analytic.values) == ["output.weight", "output.bias"]
    assert refused(source, OUTPUT_ONLY, **{"output.weight": RIGHT["output.weight"]}) == [
        "there is no gradient for 'output.bias', of shape [2]"
    ]


def test_what_is_not_checked_but_there_must_fit_all_the_same(source):
    assert list(read(source, OUTPUT_ONLY, **RIGHT).values) == ["output.weight", "output.bias"]
    assert refused(source, OUTPUT_ONLY, **{**RIGHT, "hidden1.weight": np.zeros((4, 3))}) == [
        "the gradient for 'hidden1.weight' has shape [4, 3], not [3, 4]: it is transposed"
    ]


# --- the output layer's factors --------------------------------------------------------------------------

ROW = (5, 2)


@pytest.mark.parametrize(
    ("factor", "shape"), [("dL_da", ROW), ("da_dz", ROW), ("delta", ROW), ("dz_dw", (5, 3))]
)
def test_a_factor_of_the_output_layer_may_be_there_in_its_shape(source, factor, shape):
    value = np.random.RandomState(0).randn(*shape)
    np.testing.assert_array_equal(read(source, **RIGHT, **{f"output.{factor}": value}).factors[factor], value)
    (message,) = refused(source, **RIGHT, **{f"output.{factor}": value[:4]})
    assert message == (f"the gradient for 'output.{factor}' has shape [4, {shape[1]}], not [5, {shape[1]}]")


def test_a_coupled_activation_has_a_jacobian_for_each_sample(source):
    problem = problem_of((3, "tanh"), (2, "softmax"), samples=5)
    jacobian = np.random.RandomState(0).randn(5, 2, 2)
    assert read(source, problem, **RIGHT, **{"output.da_dz": jacobian}).factors["da_dz"].shape == (5, 2, 2)
    (message,) = refused(source, problem, **RIGHT, **{"output.da_dz": np.zeros(ROW)})
    assert message == "the gradient for 'output.da_dz' has shape [5, 2], not [5, 2, 2]"


def test_a_transposed_factor_is_named_as_such(source):
    np.savez(source.file, **RIGHT, **{"output.delta": np.zeros((2, 5))})
    with pytest.raises(InputError) as caught:
        read_gradients(source, PROBLEM)
    (complaint,) = caught.value.complaints
    assert complaint.message.endswith("has shape [2, 5], not [5, 2]: it is transposed")
    assert complaint.help == "store its .T"


def test_factors_of_other_layers_are_unknown(source):
    assert refused(source, **RIGHT, **{"hidden1.delta": np.zeros((5, 3))}) == [
        "'hidden1.delta' is no parameter of this network"
    ]
