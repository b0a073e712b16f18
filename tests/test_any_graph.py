"""Checks of networks with pooling, normalisation, residuals, tokens and shared weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from spoilt import assert_an_error_in_any_tensor_is_wrong

from gradcheck_cli.checker import check
from gradcheck_cli.errors import InputError
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.mutate.mutate import mutate
from gradcheck_cli.mutate.plant import plants
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import Network, gradients
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.embedding import Embedding
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.verdict import Verdict

LENET = [
    {"conv2d": 2, "kernel": 3, "padding": 1, "activation": "relu"},
    {"max_pool2d": 2},
    {"conv2d": 3, "kernel": 2, "activation": "tanh"},
    {"max_pool2d": 2, "stride": 1},
    {"flatten": True},
    {"units": 4},
]
BLOCK = [
    {"embedding": 7, "embedding_dim": 4, "padding_idx": 0},
    {"residual": ["layer_norm", {"units": 6, "activation": "relu"}, {"units": 4}]},
    {"layer_norm": True},
    {"units": 7},
]
NORMED = [
    {"units": 5, "activation": "leaky_relu", "batch_norm": True},
    {"residual": [{"units": 5, "activation": "relu"}, {"residual": [{"units": 5, "activation": "tanh"}]}]},
    {"layer_norm": [3, 5]},
    {"units": 2},
]
NETWORKS = {
    "convolutions with pooling": (LENET, [1, 6, 6]),
    "a block on tokens": (BLOCK, 5),
    "residuals inside residuals": (NORMED, [3, 4]),
}


def spec(name, seed=0, **rest):
    layers, inputs = NETWORKS[name]
    return spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=5, seed=seed, **rest)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_right_gradients_agree(name, seed, differences, dtype):
    report = check(spec(name, seed, dtype=dtype, check={"differences": differences}))
    assert report.verdict is Verdict.AGREES
    assert {c.name for c in report.comparisons} == set(build_problem(spec(name, seed)).network.shapes)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_complex_step_agrees(name):
    assert check(spec(name, 1, check={"scheme": "complex"})).verdict is Verdict.AGREES


@pytest.mark.parametrize("scheme", ["central", "five-point", "forward"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_plain_scheme_calls_a_right_gradient_wrong(name, scheme):
    """A step of fixed length may cross a kink, which leaves an entry open."""
    assert check(spec(name, 1, check={"scheme": scheme})).verdict is not Verdict.WRONG


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_units_and_literal_differences_are_the_gradient(name, seed):
    problem = build_problem(spec(name, seed))
    right, names = right_gradients(problem), list(problem.network.shapes)
    for method in (UnitDifferences, LiteralDifferences):
        estimates = method(problem.objective, SCHEMES["adaptive"]).estimate(names)
        for each, estimate in estimates.items():
            size = max(abs(right[each]).max(), 1e-3)
            known = np.isfinite(estimate.error)
            assert known.mean() > 0.9
            np.testing.assert_allclose(estimate.value[known], right[each][known], atol=1e-6 * size)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_a_mistake_in_any_tensor_is_wrong(name, seed):
    assert_an_error_in_any_tensor_is_wrong(spec(name, seed))


def test_a_residual_whose_skip_is_forgotten_in_backward_is_wrong():
    """The gradient below the residual lacks the share that passes it by."""
    layers = [
        {"units": 4, "activation": "tanh"},
        {"residual": [{"units": 4, "activation": "relu"}]},
        {"units": 3},
    ]
    spec = spec_of(*layers, loss="cross_entropy")
    problem = build_problem(spec)
    with_skip = right_gradients(problem)
    alone = spec_of(layers[0], {"units": 4, "activation": "relu"}, {"units": 3}, loss="cross_entropy")
    plain = build_problem(alone)
    values = {name: problem.parameters[name] for name in plain.network.shapes}
    without = gradients(plain.network, values, problem.x, problem.target)
    subject = network_subject(spec, problem)
    mixed = {**with_skip, "hidden1.weight": without["hidden1.weight"]}
    analytic = replace(subject.analytic, values=mixed)
    assert replace(subject, analytic=analytic).check(spec.check).verdict is Verdict.WRONG


# --- shared weights --------------------------------------------------------------------------------------


def tied(seed=0):
    """An embedding whose weight is that of the output layer, too, with a dense layer used twice between."""
    builder = Builder((3,), {(): "net"})
    value = builder.add(Embedding(6, 4), INPUT, layer="embedding")
    twice = Dense(4, 4)
    for _ in range(2):
        value = builder.add(twice, value, layer="hidden")
        value = builder.add(Pointwise(ACTIVATIONS["tanh"].with_options()), value, layer="hidden")
    names = {"weight": "embedding.weight", "bias": "output.bias"}
    builder.add(Dense(4, 6), value, layer="output", names=names)
    network = Network(builder.graph(), LOSSES["cross_entropy"].with_options().over(1), 0.5, {})
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(size=shape) for name, shape in network.shapes.items()}
    x, target = rng.integers(6, size=(5, 3)).astype(float), np.eye(6)[rng.integers(6, size=(5, 3))]
    return network, parameters, x, target


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_a_shared_parameter_is_the_sum_over_its_uses(seed):
    network, parameters, x, target = tied(seed)
    right = gradients(network, parameters, x, target)
    assert set(right) == {"embedding.weight", "hidden.weight", "hidden.bias", "output.bias"}
    objective = NetworkObjective(network, parameters, x, target)
    assert [len(objective.uses(name)) for name in network.shapes] == [1, 2, 2, 2]
    for method in (UnitDifferences, LiteralDifferences):
        for name, estimate in method(objective, SCHEMES["adaptive"]).estimate(list(right)).items():
            assert np.isfinite(estimate.error).all()
            off = np.abs(estimate.value - right[name])
            assert (off <= 3.0 * estimate.error + 1e-9 * np.abs(right[name])).all()
            assert (estimate.error <= 1e-6 * abs(right[name]).max()).all()


def test_each_use_of_a_shared_parameter_counts():
    """A network that adds a layer to itself has twice its gradient, by units and one by one."""
    builder = Builder((4,), {(): "net"})
    step = Dense(4, 2)
    both = [builder.add(step, INPUT, layer="output") for _ in range(2)]
    builder.add(Add(), *both, layer="sum")
    network = Network(builder.graph(), LOSSES["mse"].with_options(), 1.0, {})
    rng = np.random.default_rng(0)
    parameters = {name: rng.normal(size=shape) for name, shape in network.shapes.items()}
    x, target = rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    right = gradients(network, parameters, x, target)
    delta = 2.0 * 2.0 * (2.0 * (x @ parameters["output.weight"].T + parameters["output.bias"]) - target)
    np.testing.assert_allclose(right["output.weight"], delta.T @ x, rtol=1e-12)
    objective = NetworkObjective(network, parameters, x, target)
    for method in (UnitDifferences, LiteralDifferences):
        estimates = method(objective, SCHEMES["adaptive"]).estimate(list(right))
        np.testing.assert_allclose(estimates["output.weight"].value, delta.T @ x, rtol=1e-8)


# --- kinks -----------------------------------------------------------------------------------------------


def pooled(weight, bias=0.0):
    """A convolution of one number, pooled over an image of four, with both numbers of each row the same."""
    layers = [{"conv2d": 1, "kernel": 1}, {"max_pool2d": 2}, {"flatten": True}, {"units": 1}]
    problem = problem_of(*layers, inputs=[2, 2, 2], samples=2, loss="mse")
    x = np.array([[[[3.0, 1.0], [0.0, -1.0]], [[0.0, 2.0], [1.0, 0.5]]]] * 2)
    parameters = {**problem.parameters, "hidden1.weight": np.array(weight).reshape(1, 2, 1, 1)}
    return replace(problem, x=x, parameters=parameters)


def numbered(problem):
    kinks = problem.objective.kinks
    return kinks.numbered(False, kinks.of_nodes)


def test_a_tie_of_two_is_a_kink_whose_usual_choices_are_all_right():
    """x₀ + x₁ is 3 at the first two positions: either may be the largest, with another gradient."""
    problem = pooled([1.0, 1.0])
    kinks = problem.objective.kinks
    assert kinks.in_activations
    assert numbered(problem).pieces == (2,)
    right = right_gradients(problem)
    subject = network_subject(spec_of({"units": 1}), problem)
    delta = right["hidden1.weight"].ravel()[0] / 3.0  # the first position, (3, 0), gets all of it
    for gradient, agrees in (
        (delta * np.array([3.0, 0.0]), True),  # to the first
        (delta * np.array([1.0, 2.0]), True),  # to the last
        (delta * np.array([2.0, 1.0]), True),  # half to each
        (delta * np.array([4.0, 2.0]), False),  # whole to each
        (delta * np.array([0.0, 0.0]), False),  # to none
    ):
        values = {**right, "hidden1.weight": gradient.reshape(1, 2, 1, 1)}
        analytic = replace(subject.analytic, values=values)
        how = spec_of({"units": 1}).check
        verdict = replace(subject, analytic=analytic).check(how).verdict
        assert (verdict is Verdict.AGREES) == agrees


def test_off_a_tie_there_is_no_kink():
    assert not pooled([1.0, 0.9]).objective.kinks.any


def test_a_tie_of_three_is_never_called_wrong_for_an_unusual_choice():
    problem = pooled([1.0, 1.0])
    x = problem.x.copy()
    x[:, :, 1, 0] = [2.0, 1.0]  # 3 in all
    problem = replace(problem, x=x)
    assert numbered(problem).pieces == (3,)
    right = right_gradients(problem)
    delta = right["hidden1.weight"].ravel()[0] / 3.0
    thirds = delta * np.array([3.0 + 1.0 + 2.0, 0.0 + 2.0 + 1.0]) / 3.0
    subject = network_subject(spec_of({"units": 1}), problem)
    values = {**right, "hidden1.weight": thirds.reshape(1, 2, 1, 1)}
    analytic = replace(subject.analytic, values=values)
    report = replace(subject, analytic=analytic).check(spec_of({"units": 1}).check)
    assert report.verdict is not Verdict.WRONG


# --- the graph -------------------------------------------------------------------------------------------


def test_a_chain_is_seen_as_layers_and_any_other_graph_is_not():
    assert [layer.name for layer in build_problem(spec("convolutions with pooling")).network.layers] == [
        "hidden1",
        "hidden2",
        "output",
    ]
    for name in ("a block on tokens", "residuals inside residuals"):
        network = build_problem(spec(name)).network
        assert not network.is_chain
        assert network.layers == ()


def test_a_perturbation_may_pass_a_layer_that_is_off_by_the_side_of_it():
    """All units of the inner layer are off, and what is below still has its exact gradient."""
    layers = [
        {"units": 4, "activation": "tanh"},
        {"residual": [{"units": 4, "activation": "relu"}]},
        {"units": 3},
    ]
    problem = problem_of(*layers, loss="cross_entropy")
    off = {**problem.parameters, "hidden2.bias": np.full(4, -100.0)}
    problem = replace(problem, parameters=off)
    right = right_gradients(problem)
    assert right["hidden1.weight"].all()
    assert not right["hidden2.weight"].any()
    assert problem.network.graph.gates(1) == frozenset({1, 4, 5, 6})
    subject = network_subject(spec_of(*layers, loss="cross_entropy"), problem)
    assert subject.check(spec_of({"units": 1}).check).verdict is Verdict.AGREES


@pytest.mark.parametrize(
    ("layers", "inputs", "message", "place"),
    [
        ([{"residual": [{"units": 3}]}], 4, r"turn samples of shape \[4\] into \[3\]", (0, "residual")),
        ([{"residual": [{"max_pool2d": 2}]}], 4, "pooling needs images", (0, "residual", 0, "max_pool2d")),
        ([{"layer_norm": [5]}], 4, r"the last axes of \[4\] are not \[5\]", (0, "layer_norm")),
        ([{"units": 2}, {"embedding": 3, "embedding_dim": 2}], 4, "it must come first", (1, "embedding")),
        ([{"max_pool2d": 3, "padding": 2}], [1, 5, 5], "more than half the window", (0, "padding")),
        ([{"max_pool2d": 9}], [1, 5, 5], "does not fit into images of 5 × 5", (0, "max_pool2d")),
        ([{"flatten": True}], [1, 5, 5], "there is nothing to check", ()),
    ],
)
def test_layers_that_do_not_fit_are_refused_where_they_are(layers, inputs, message, place):
    with pytest.raises(InputError, match=message) as caught:
        build_problem(spec_of(*layers, inputs=inputs))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", *place)


def test_other_numbers_than_tokens_are_refused():
    data = {"x": [[0, 1, 2], [3, 7, 1]], "y": [[0, 0, 0], [1, 1, 1]]}
    with pytest.raises(InputError, match=r"x\[1, 1\] is 7, not a token; the embedding has tokens 0 to 6"):
        build_problem(spec_of(*BLOCK, inputs=3, loss="cross_entropy", data=data))


def test_labels_of_every_position_may_be_written_in_the_spec():
    data = {"x": [[0, 1, 2], [3, 6, 1]], "y": [[0, 3, 0], [1, 6, 1]]}
    problem = build_problem(spec_of(*BLOCK, inputs=3, loss="cross_entropy", data=data))
    np.testing.assert_array_equal(problem.target, np.eye(7)[np.array(data["y"])])


# --- wrong gradients ---------------------------------------------------------------------------------------


def test_a_trained_padding_row_is_wrong_and_named():
    """Nothing that is differenced feeds that row, so there is nothing to look at more closely."""
    at = spec("a block on tokens")
    problem = build_problem(at)
    (plant,) = (each for each in plants(problem) if each.wrong.kind == "padding row trained")
    subject = network_subject(at, problem)
    analytic = replace(subject.analytic, values=dict(plant.gradients))
    report = replace(subject, analytic=analytic).check(at.check)
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis.answers[0].causes[0].kind == "padding row trained"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_mistakes_planted_in_any_graph_are_caught_and_named(name):
    found = mutate(spec(name), sample=6)
    assert found.right is Verdict.AGREES
    assert len(found.visible) > 2
    assert found.caught == len(found.visible)
    assert found.named >= 0.9 * found.caught
