"""From a spec to a problem: what is built, and what is refused before memory is allocated."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, spec_of

from gradcheck_cli.errors import InputError
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import Sized, initialise
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import build_problem

RNG = np.random.RandomState(0)


def refused(spec):
    with pytest.raises(InputError) as caught:
        build_problem(spec)
    return [(complaint.message, complaint.where) for complaint in caught.value.complaints]


# --- what is built ---------------------------------------------------------------------------------------


def test_a_problem_is_what_its_spec_says():
    problem = problem_of(
        {"units": 3, "activation": {"name": "elu", "alpha": 0.5}, "name": "wide"},
        (2, "tanh"),
        loss={"name": "mse", "reduction": "mean", "scale": 0.5},
        penalty={"l2": 0.1, "biases": True},
        samples=5,
    )
    network = problem.network
    assert [(layer.name, layer.inputs, layer.units) for layer in network.layers] == [
        ("wide", 4, 3),
        ("output", 3, 2),
    ]
    assert network.layers[0].activation.value(np.array([-np.inf])) == -0.5
    assert network.coefficient == 0.5 / (5 * 2)
    assert (network.penalties, network.penalize_biases) == ({"l2": 0.1}, True)
    assert list(network.shapes.items()) == [
        ("output.weight", (2, 3)),
        ("output.bias", (2,)),
        ("wide.weight", (3, 4)),
        ("wide.bias", (3,)),
    ]
    assert problem.checked == tuple(network.shapes)
    assert {name: value.shape for name, value in problem.parameters.items()} == network.shapes
    assert (problem.x.shape, problem.target.shape) == ((5, 4), (5, 2))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_loss_makes_a_problem_with_a_finite_loss(activation, loss):
    problem = problem_of((3, activation), (2, activation), loss=loss)
    assert np.isfinite(problem.objective.total)


@pytest.mark.parametrize("depth", [1, 2, 30])
@pytest.mark.parametrize("width", [1, 2, 40])
def test_networks_of_any_depth_and_width_can_be_built(depth, width):
    problem = problem_of(*[(width, "tanh")] * depth)
    assert len(problem.parameters) == 2 * depth
    assert problem.parameters["output.weight"].shape == (width, width if depth > 1 else 4)


def test_in_float32_every_number_is_one_that_float32_can_hold():
    problem = problem_of((3, "tanh"), (2, "identity"), dtype="float32")
    assert problem.dtype == np.float32
    for array in (problem.x, problem.target, *problem.parameters.values()):
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, array.astype(np.float32))
    wide = problem_of((3, "tanh"), (2, "identity"))
    assert (wide.x != problem.x).any()
    np.testing.assert_allclose(wide.x, problem.x, rtol=1e-7)


def test_the_parameters_are_the_initialisers_draws():
    spec = spec_of((3, "tanh"), (2, "tanh"), parameters={"init": "he", "scale": 2, "seed": 5, "bias": "same"})
    sizes = [
        Sized("hidden1.weight", (3, 4), 4, 3),
        Sized("output.weight", (2, 3), 3, 2),
        Sized("hidden1.bias", (3,), 4, 3, 0.0),
        Sized("output.bias", (2,), 3, 2, 0.0),
    ]
    expected = initialise("he", 2.0, 5, True, sizes)
    parameters = build_problem(spec).parameters
    for name, value in expected.items():
        np.testing.assert_array_equal(parameters[name], value)


# --- targets, smoothed and weighted ----------------------------------------------------------------------


def of_labels(loss, y=(0, 2, 1), **rest):
    data = {"x": [[1, 2]] * len(y), "y": list(y)}
    return spec_of((3, "identity"), inputs=2, loss=loss, data=data, **rest)


def test_label_smoothing_spreads_part_of_the_target_evenly():
    problem = build_problem(of_labels({"name": "cross_entropy", "label_smoothing": 0.3}))
    np.testing.assert_allclose(problem.target, 0.7 * np.eye(3)[[0, 2, 1]] + 0.1, rtol=1e-15)
    np.testing.assert_allclose(problem.target.sum(axis=1), 1.0, rtol=1e-15)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum"])
def test_class_weights_are_normalised_by_their_sum_over_the_samples(reduction):
    """PyTorch does the same: a label has the weight of its class."""
    loss = {"name": "cross_entropy", "weight": [1.0, 0.5, 2.0], "reduction": reduction}
    problem = build_problem(of_labels(loss, y=(0, 2, 2, 1)))
    np.testing.assert_array_equal(problem.target, np.eye(3)[[0, 2, 2, 1]] * [1.0, 0.5, 2.0])
    assert problem.network.coefficient == (1.0 if reduction == "sum" else 1 / 5.5)


def test_class_weights_of_distributions_weigh_each_sample_1():
    loss = {"name": "cross_entropy", "weight": [1.0, 0.5, 2.0]}
    problem = build_problem(of_labels(loss, y=([0.2, 0.3, 0.5], [1, 0, 0])))
    np.testing.assert_allclose(problem.target, [[0.2, 0.15, 1.0], [1, 0, 0]], rtol=1e-15)
    assert problem.network.coefficient == 0.5


@pytest.mark.parametrize("weight", [[1, 1], [1, 1, 1, 1]])
def test_as_many_class_weights_as_outputs_are_needed(weight):
    assert refused(of_labels({"name": "cross_entropy", "weight": weight})) == [
        (f"there are {len(weight)} class weights, but 3 outputs", ("network", "loss", "weight"))
    ]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([0, 1, 0], "every sample's class weight is 0, so the loss is a mean over nothing"),
        ([1e308, 1, 1e308], "the samples' class weights add up to infinity"),
    ],
)
def test_class_weights_that_leave_no_mean_are_refused(weight, message):
    assert refused(of_labels({"name": "cross_entropy", "weight": weight}, y=(0, 2, 0))) == [
        (message, ("network", "loss", "weight"))
    ]


# --- parameters from a file ------------------------------------------------------------------------------

SHAPES = {"output.weight": (2, 3), "output.bias": (2,), "hidden1.weight": (3, 4), "hidden1.bias": (3,)}


@pytest.fixture
def with_parameters(tmp_path):
    def with_parameters(**rest):
        arrays = {name: RNG.randn(*shape) for name, shape in SHAPES.items()}
        arrays |= {name.replace("__", "."): value for name, value in rest.items()}
        np.savez(tmp_path / "w.npz", **{name: value for name, value in arrays.items() if value is not None})
        return arrays, spec_of((3, "tanh"), (2, "tanh"), parameters={"file": tmp_path / "w.npz"})

    return with_parameters


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f8", "i8", "g"])
def test_parameters_of_a_file_are_used_unchanged(with_parameters, dtype):
    arrays, spec = with_parameters(hidden1__weight=np.asfortranarray(RNG.randn(3, 4) * 4).astype(dtype))
    parameters = build_problem(spec).parameters
    for name, value in arrays.items():
        np.testing.assert_array_equal(parameters[name], value)
        assert parameters[name].dtype == np.float64
        assert parameters[name].flags.c_contiguous


def test_parameters_that_do_not_fit_are_all_named(with_parameters):
    _, spec = with_parameters(output__weight=np.zeros((3, 2)), hidden1__bias=None, hidden__bias=np.zeros(3))
    where = ("parameters", "file")
    assert refused(spec) == [
        ("w.npz uses names that the network does not have: hidden.bias", where),
        ("the parameter for 'output.weight' has shape [3, 2], not [2, 3]: it is transposed", where),
    ]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_all_named(with_parameters, number):
    _, spec = with_parameters(output__bias=np.array([0, number]), hidden1__bias=np.array([number, 0, 0]))
    assert {message for message, _ in refused(spec)} == {
        "parameter 'output.bias' holds numbers that are not finite",
        "parameter 'hidden1.bias' holds numbers that are not finite",
    }


# --- which parameters to check ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "checked"),
    [
        ("all", ["output.weight", "output.bias", "hidden1.weight", "hidden1.bias"]),
        ("output.*", ["output.weight", "output.bias"]),
        ("*.bias", ["output.bias", "hidden1.bias"]),
        (["hidden1.weight", "output.weight"], ["output.weight", "hidden1.weight"]),
        (["*.weight", "hidden1.weight"], ["output.weight", "hidden1.weight"]),
        ("hidden[0-9].bias", ["hidden1.bias"]),
    ],
)
def test_the_parameters_to_check_are_those_that_a_pattern_matches_the_output_first(patterns, checked):
    problem = problem_of((3, "tanh"), (2, "tanh"), check={"parameters": patterns})
    assert problem.checked == tuple(checked)


def test_patterns_that_match_nothing_are_all_named():
    spec = spec_of((3, "tanh"), (2, "tanh"), check={"parameters": ["output.wieght", "*", "OUTPUT.*", "["]})
    with pytest.raises(InputError) as caught:
        build_problem(spec)
    there_is = "the parameters are output.weight, output.bias, hidden1.weight, hidden1.bias"
    assert [(c.message, c.where, c.help) for c in caught.value.complaints] == [
        ("'output.wieght' matches no parameter", ("check", "parameters", 0), "did you mean 'output.weight'?"),
        ("'OUTPUT.*' matches no parameter", ("check", "parameters", 2), "did you mean 'output.*'?"),
        ("'[' matches no parameter", ("check", "parameters", 3), there_is),
    ]


def test_only_the_first_parameters_of_a_deep_network_are_listed():
    spec = spec_of(*[(1, "tanh")] * 10, check={"parameters": "x" * 1000})
    with pytest.raises(InputError) as caught:
        build_problem(spec)
    (complaint,) = caught.value.complaints
    assert complaint.message == f"'{'x' * 39}…' matches no parameter"
    assert complaint.help.startswith("the parameters are output.weight, output.bias, hidden9.weight, ")
    assert complaint.help.endswith(", hidden7.bias and 12 more")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_check_section_is_not_part_of_the_problem(scheme):
    plain = problem_of((2, "tanh"))
    problem = problem_of((2, "tanh"), check={"scheme": scheme, "step": 1e-3})
    np.testing.assert_array_equal(plain.x, problem.x)
    assert plain.checked == problem.checked


# --- networks that cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "twice", "index"),
    [
        (("a", "a", None), "a", 1),
        ((None, "hidden1", None), "hidden1", 1),
        (("output", None, None), "output", 2),
    ],
)
def test_two_layers_of_one_name_are_refused(names, twice, index):
    layers = [{"units": 2, **({"name": name} if name else {})} for name in names]
    assert refused(spec_of(*layers)) == [
        (f"two layers are named '{twice}'", ("network", "layers", index, "name"))
    ]


@pytest.fixture
def nothing_is_allocated(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("something is being allocated")

    monkeypatch.setattr("gradcheck_cli.problem.problem.read_batch", fail)
    monkeypatch.setattr("gradcheck_cli.problem.problem.initialise", fail)


@pytest.mark.usefixtures("nothing_is_allocated")
def test_a_weight_beyond_the_limit_is_refused_before_it_is_allocated():
    assert refused(spec_of((1_000_000, "relu"), inputs=1_000_000)) == [
        (
            "a weight of 1,000,000 × 1,000,000 brings the parameters over the limit of 250,000,000 numbers",
            ("network", "layers", 0, "units"),
        )
    ]


@pytest.mark.usefixtures("nothing_is_allocated")
def test_many_layers_are_refused_together_where_they_pass_the_limit():
    ((message, where),) = refused(spec_of(*[(15_000, "relu")] * 1000, inputs=1))
    assert message.startswith("a weight of 15,000 × 15,000 brings the parameters over the limit")
    assert where == ("network", "layers", 2, "units")


@pytest.mark.usefixtures("nothing_is_allocated")
def test_everything_that_is_impossible_about_a_network_is_reported_at_once():
    loss = {"name": "cross_entropy", "weight": [1]}
    layers = [
        {"units": 2, "name": "a"},
        {"units": 2, "name": "a"},
        {"units": 1_000_000},
        {"units": 1_000_000},
    ]
    assert [where for _, where in refused(spec_of(*layers, loss=loss))] == [
        ("network", "layers", 1, "name"),
        ("network", "layers", 3, "units"),
        ("network", "loss", "weight"),
    ]


def test_activations_beyond_the_limit_are_refused_before_the_parameters_are_drawn(monkeypatch):
    monkeypatch.setattr("gradcheck_cli.problem.layers.MAX_NUMBERS", 1000)
    with pytest.raises(InputError) as caught:
        problem_of((9, "relu"), (9, "relu"), samples=100)
    (complaint,) = caught.value.complaints
    assert complaint.message == (
        "100 samples of 9 units bring the activations over the limit of 1,000 numbers"
    )
    assert (complaint.where, complaint.help) == (("network", "layers", 1, "units"), "check a smaller batch")


def test_too_little_memory_is_bad_input(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("gradcheck_cli.problem.problem.initialise", fail)
    assert refused(spec_of((2, "tanh"))) == [
        ("there is not enough memory for a network and batch of this size", ("network",))
    ]


def test_data_parameters_and_patterns_are_reported_at_once(tmp_path):
    spec = spec_of(
        (2, "tanh"),
        data={"x": [[1, 2]], "y": [0]},
        parameters={"file": tmp_path / "absent.npz"},
        check={"parameters": "nothing"},
    )
    assert [where for _, where in refused(spec)] == [
        ("data", "x"),
        ("parameters", "file"),
        ("check", "parameters", 0),
    ]


def test_a_wrong_label_is_reported_where_it_stands(tmp_path):
    inline = {"x": [[1, 2]] * 3, "y": [0, 3, 1]}
    message = "y[1] is 3, but there are 3 outputs: labels are 0 to 2"
    assert refused(spec_of((3, "tanh"), inputs=2, data=inline)) == [(message, ("data", "y", 1))]
    np.savez(tmp_path / "d.npz", **inline)
    of_file = {"file": tmp_path / "d.npz"}
    assert refused(spec_of((3, "tanh"), inputs=2, data=of_file)) == [(message, ("data", "file"))]


# --- numbers that run away -------------------------------------------------------------------------------


def test_an_overflowing_forward_pass_is_reported_at_the_layer_where_it_happens():
    spec = spec_of((3, "relu"), (3, "relu"), (2, "identity"), parameters={"init": "normal", "scale": 1e160})
    assert refused(spec) == [
        (
            "the forward pass overflows: pre-activations of layer 'hidden2' are not finite",
            ("network", "layers", 1),
        )
    ]


def test_parameters_drawn_beyond_float64_are_reported_in_the_first_layer():
    spec = spec_of((3, "tanh"), (2, "tanh"), parameters={"init": "normal", "scale": 1.7e308})
    assert [where for _, where in refused(spec)] == [("network", "layers", 0)]


def test_numbers_beyond_float32_overflow_only_in_float32():
    def spec(dtype):
        return spec_of((2, "tanh"), data={"synthetic": "normal", "scale": 1e39}, dtype=dtype)

    assert np.isfinite(build_problem(spec("float64")).objective.total)
    assert [where for _, where in refused(spec("float32"))] == [("network", "layers", 0)]


@pytest.mark.parametrize(
    ("loss", "penalty", "at"),
    [
        ({"name": "mse", "scale": 1e308}, {}, "loss"),
        ("mse", {"l2": 1e308}, "penalty"),
        ("mse", {"l1": 1e308}, "penalty"),
    ],
)
def test_a_loss_or_penalty_that_is_not_finite_is_refused(loss, penalty, at):
    parameters = {"init": "uniform", "scale": 100}
    spec = spec_of((20, "identity"), loss=loss, penalty=penalty, parameters=parameters)
    assert refused(spec) == [(f"the {at} is not a finite number at these parameters", ("network", at))]
