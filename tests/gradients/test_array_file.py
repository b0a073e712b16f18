"""The user's gradients from a file: what is accepted unchanged, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of

from gradcheck_cli import Verdict, check
from gradcheck_cli.errors import InputError
from gradcheck_cli.gradients.sources import SOURCES, read_gradients
from gradcheck_cli.spec.file import read_spec
from gradcheck_cli.spec.gradients import GradientFile

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


def test_the_arrays_are_used_unchanged(source):
    analytic = read(source, **RIGHT)
    assert list(analytic.values) == list(PROBLEM.checked)
    for name, value in RIGHT.items():
        np.testing.assert_array_equal(analytic.values[name], value)
    assert (analytic.origin, analytic.factors) == ("g.npz", {})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_a_wrong_gradient_rather_than_bad_input(source, number):
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
        "output.bias": RIGHT["output.bias"][None, None],
        "hidden1.wieght": RIGHT["hidden1.weight"],
        "hidden1.bias": RIGHT["hidden1.bias"],
    }
    assert refused(source, **arrays) == [
        "g.npz uses names that the network does not have: hidden1.wieght",
        "the gradient for 'output.weight' has shape [3, 2], not [2, 3]: it is transposed",
        "the gradient for 'output.bias' has shape [1, 1, 2], not [2]",
    ]


def test_an_empty_file_misses_everything(source):
    assert refused(source) == ["g.npz holds none of the gradients: it holds nothing"]


def test_factors_alone_are_one_error(source):
    factors = {"output.delta": np.zeros((5, 2)), "hidden1.delta": np.zeros((5, 3))}
    assert refused(source, **factors) == [
        "g.npz holds none of the gradients: it holds output.delta, hidden1.delta"
    ]


def test_arrays_that_are_not_numbers_are_refused(source):
    (message,) = refused(source, **{**RIGHT, "output.bias": np.array([None, 1], dtype=object)})
    assert "holds pickled objects" in message
    (message,) = refused(source, **{**RIGHT, "output.bias": RIGHT["output.bias"] + 0j})
    assert message == "array 'output.bias' of g.npz has dtype complex128; real numbers are needed"


def test_a_missing_file_is_refused(source):
    with pytest.raises(InputError) as caught:
        read_gradients(source, PROBLEM)
    (complaint,) = caught.value.complaints
    assert (complaint.message, complaint.where) == (f"there is no file '{source.file}'", WHERE)


# --- only some parameters are checked --------------------------------------------------------------------

OUTPUT_ONLY = problem_of((3, "tanh"), (2, "sigmoid"), samples=5, check={"parameters": "output.*"})


def test_unchecked_arrays_may_be_left_out(source):
    analytic = read(source, OUTPUT_ONLY, **{name: RIGHT[name] for name in OUTPUT_ONLY.checked})
    assert list(analytic.values) == ["output.weight", "output.bias"]
    assert refused(source, OUTPUT_ONLY, **{"output.weight": RIGHT["output.weight"]}) == [
        "there is no gradient for 'output.bias', whose shape is [2]"
    ]


def test_unchecked_arrays_that_exist_must_fit(source):
    assert list(read(source, OUTPUT_ONLY, **RIGHT).values) == ["output.weight", "output.bias"]
    assert refused(source, OUTPUT_ONLY, **{**RIGHT, "hidden1.weight": np.zeros((4, 3))}) == [
        "the gradient for 'hidden1.weight' has shape [4, 3], not [3, 4]: it is transposed"
    ]


# --- the output layer's factors --------------------------------------------------------------------------

ROW = (5, 2)


@pytest.mark.parametrize(
    ("factor", "shape"), [("dL_da", ROW), ("da_dz", ROW), ("delta", ROW), ("dz_dw", (5, 3))]
)
def test_a_factor_of_the_output_layer_may_be_included_in_its_shape(source, factor, shape):
    value = np.random.RandomState(0).randn(*shape)
    np.testing.assert_array_equal(
        read(source, **RIGHT, **{f"output.{factor}": value}).factors[f"output.{factor}"], value
    )
    (message,) = refused(source, **RIGHT, **{f"output.{factor}": value[:4]})
    assert message == (f"the gradient for 'output.{factor}' has shape [4, {shape[1]}], not [5, {shape[1]}]")


def test_a_coupled_activation_has_a_jacobian_for_each_sample(source):
    problem = problem_of((3, "tanh"), (2, "softmax"), samples=5)
    jacobian = np.random.RandomState(0).randn(5, 2, 2)
    assert read(source, problem, **RIGHT, **{"output.da_dz": jacobian}).factors["output.da_dz"].shape == (
        5,
        2,
        2,
    )
    (message,) = refused(source, problem, **RIGHT, **{"output.da_dz": np.zeros(ROW)})
    assert message == "the gradient for 'output.da_dz' has shape [5, 2], not [5, 2, 2]"


def test_a_transposed_factor_is_named_as_such(source):
    np.savez(source.file, **RIGHT, **{"output.delta": np.zeros((2, 5))})
    with pytest.raises(InputError) as caught:
        read_gradients(source, PROBLEM)
    (complaint,) = caught.value.complaints
    assert complaint.message.endswith("has shape [2, 5], not [5, 2]: it is transposed")
    assert complaint.help == "use the array's .T"


def test_a_factor_of_a_hidden_layer_may_be_included(source):
    delta = np.ones((5, 3))
    found = read(source, **RIGHT, **{"hidden1.delta": delta}).factors
    np.testing.assert_array_equal(found["hidden1.delta"], delta)


def test_factors_of_missing_layers_are_unknown(source):
    assert refused(source, **RIGHT, **{"hidden7.delta": np.zeros((5, 3))}) == [
        "'hidden7.delta' is not a parameter"
    ]


def test_the_loss_may_be_included_as_a_number(source):
    assert read(source, **RIGHT).loss is None
    assert read(source, **RIGHT, loss=np.array(2.5)).loss == 2.5
    assert refused(source, **RIGHT, loss=np.ones(5)) == ["the gradient for 'loss' has shape [5], not []"]


# --- other files, names and layouts ----------------------------------------------------------------------

SQUARE = problem_of((4, "tanh"), (4, "sigmoid"), inputs=4, samples=5)
"""A network with square weights, whose shapes fit either layout."""
NAMES = {
    "fc1.weight": "hidden1.weight",
    "fc1.bias": "hidden1.bias",
    "W2": "output.weight",
    "b2": "output.bias",
}


def in_theirs(gradients):
    """Return the arrays under the names of NAMES, and as [in, out]."""
    return {theirs: gradients[ours].T for theirs, ours in NAMES.items()}


def test_a_folder_of_npy_and_a_safetensors_serve_as_well(tmp_path):
    for name, array in RIGHT.items():
        np.save(tmp_path / f"{name}.npy", array)
    analytic = read_gradients(GradientFile(file=tmp_path), PROBLEM)
    assert analytic.origin == tmp_path.name
    np.testing.assert_array_equal(analytic.values["hidden1.weight"], RIGHT["hidden1.weight"])
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(RIGHT, tmp_path / "g.safetensors")
    analytic = read_gradients(GradientFile(file=tmp_path / "g.safetensors"), PROBLEM)
    np.testing.assert_array_equal(analytic.values["hidden1.weight"], RIGHT["hidden1.weight"])


def test_names_and_layout_of_the_author_are_honoured(tmp_path):
    source = GradientFile(file=tmp_path / "g.npz", names=NAMES, layout="in_out")
    analytic = read(source, **in_theirs(RIGHT))
    for name, value in RIGHT.items():
        np.testing.assert_array_equal(analytic.values[name], value)


def test_factors_keep_their_layout_and_may_have_names_too(tmp_path):
    source = GradientFile(file=tmp_path / "g.npz", names={**NAMES, "d2": "output.delta"}, layout="in_out")
    delta, dz_dw = np.ones((5, 2)), np.ones((5, 3))
    analytic = read(source, **in_theirs(RIGHT), d2=delta, **{"output.dz_dw": dz_dw})
    assert {name: value.shape for name, value in analytic.factors.items()} == {
        "output.delta": (5, 2),
        "output.dz_dw": (5, 3),
    }


def test_with_the_wrong_layout_a_weight_that_is_not_square_is_refused(source):
    assert refused(source, **{name: array.T for name, array in RIGHT.items()}) == [
        "the gradient for 'output.weight' has shape [3, 2], not [2, 3]: it is transposed",
        "the gradient for 'hidden1.weight' has shape [4, 3], not [3, 4]: it is transposed",
    ]


@pytest.mark.parametrize(("layout", "verdict"), [("in_out", Verdict.AGREES), ("out_in", Verdict.WRONG)])
def test_with_the_wrong_layout_a_square_weight_is_a_wrong_gradient(tmp_path, layout, verdict):
    right = right_gradients(SQUARE)
    source = GradientFile(file=tmp_path / "g.npz", names=NAMES, layout=layout)
    np.savez(source.file, **in_theirs(right))
    spec = spec_of((4, "tanh"), (4, "sigmoid"), inputs=4, samples=5).model_copy(update={"gradients": source})
    assert check(spec).verdict is verdict


def test_names_that_are_mixed_up_are_a_wrong_gradient(tmp_path):
    mixed = {**NAMES, "fc1.bias": "output.bias", "b2": "hidden1.bias"}
    source = GradientFile(file=tmp_path / "g.npz", names=mixed, layout="in_out")
    np.savez(source.file, **in_theirs(right_gradients(SQUARE)))
    spec = spec_of((4, "tanh"), (4, "sigmoid"), inputs=4, samples=5).model_copy(update={"gradients": source})
    report = check(spec)
    assert [c.name for c in report.comparisons if c.verdict is Verdict.WRONG] == [
        "output.bias",
        "hidden1.bias",
    ]


def test_a_mistake_in_names_is_shown_where_it_stands_in_the_spec(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "network: {inputs: 4, layers: [{units: 2}], loss: mse}\n"
        "data: {synthetic: normal}\n"
        "gradients:\n"
        "  file: g.npz\n"
        "  names:\n"
        "    fc.weight: outptu.weight\n"
        "    fc.bias: output.bias\n"
    )
    np.savez(tmp_path / "g.npz")
    spec = read_spec(path)
    with pytest.raises(InputError) as caught:
        check(spec.spec)
    (complaint,) = spec.located(caught.value).complaints
    assert (complaint.position.line, complaint.position.column) == (6, 16)
    assert complaint.help == "did you mean 'output.weight'?"
