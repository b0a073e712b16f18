"""All methods in the speed benchmark compute the same thing; otherwise its timings would mean nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from paths import ROOT

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import Problem, build_problem

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

import layer_speed
import peers
from floor import Rates, work
from ours import plain_by_units, plain_literally, with_wrong_gradient
from timing import ROUNDS, Timing, Way, duration, extrapolate, look, side_by_side

TANH = ([(5, "tanh"), (4, "tanh"), (3, "identity")], "cross_entropy")
SIGMOID = ([(4, "sigmoid"), (2, "sigmoid")], "mse")
RELU = ([(6, "relu"), (3, "identity")], "cross_entropy")


def spec_of(layers: list[tuple[int, str]], loss: str) -> Spec:
    return Spec.model_validate(
        {
            "network": {
                "inputs": 3,
                "layers": [{"units": units, "activation": activation} for units, activation in layers],
                "loss": loss,
            },
            "parameters": {"init": "xavier", "seed": 4, "bias": "same"},
            "data": {"synthetic": "normal", "samples": 6, "seed": 5},
        }
    )


@pytest.fixture(params=[TANH, SIGMOID, RELU], ids=["tanh", "sigmoid", "relu"])
def spec(request: pytest.FixtureRequest) -> Spec:
    return spec_of(*request.param)


@pytest.fixture
def problem(spec: Spec) -> Problem:
    return build_problem(spec)


@pytest.fixture
def net(spec: Spec, problem: Problem) -> peers.Dense:
    return peers.dense(problem, spec.network.loss.name)


@pytest.fixture
def backprop(problem: Problem) -> np.ndarray:
    return peers.flattened(problem, gradients(problem.network, problem.parameters, problem.x, problem.target))


def agree(slopes: np.ndarray, right: np.ndarray, tolerance: float = 1e-7) -> bool:
    return slopes.shape == right.shape and np.allclose(slopes, right, rtol=tolerance, atol=1e-2 * tolerance)


# --- every way computes the gradient -----------------------------------------------------------------------


def test_a_peers_loss_is_ours(net, problem):
    assert peers.numpy_loss(net, net.tensors(net.flat)) == pytest.approx(problem.objective.total, rel=1e-13)


def test_numpy_one_by_one_is_the_gradient(net, backprop):
    assert agree(peers.numpy_one_by_one(net)(np.arange(net.entries)), backprop)


def test_plain_central_differences_by_units_are_the_gradient(problem, backprop):
    assert agree(peers.flattened(problem, plain_by_units(problem)), backprop)


def test_literal_ones_are_the_gradient_entry_by_entry(problem, backprop):
    names = [name for layer in problem.network.layers for name in (layer.weight, layer.bias)]
    which = np.random.default_rng(0).permutation(len(backprop))[:20]
    assert agree(plain_literally(problem, names, which), backprop[which])


@pytest.mark.parametrize("method", ["2-point", "3-point"])
def test_scipy_is_the_gradient_in_full_and_of_a_sample(net, backprop, method):
    pytest.importorskip("scipy")
    differences = peers.scipy_differences(net, method)
    which = np.random.default_rng(1).permutation(net.entries)[:9]
    assert agree(differences(np.arange(net.entries)), backprop, 1e-4)
    assert agree(differences(which), backprop[which], 1e-4)


def test_torch_has_the_same_loss_and_gradient(net, problem, backprop):
    torch = pytest.importorskip("torch")
    tensors = peers.torch_tensors(net)
    loss = peers.torch_loss(net)(*tensors)
    slopes = torch.cat([slope.ravel() for slope in torch.autograd.grad(loss, tensors)]).numpy()
    assert loss.item() == pytest.approx(problem.objective.total, rel=1e-13)
    assert agree(slopes, backprop, 1e-12)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_torch_gradcheck_passes_in_full_and_of_a_sample(net, fast):
    pytest.importorskip("torch")
    run = peers.torch_gradcheck(net, fast)
    assert run(net.entries)
    assert run(net.biases)
    assert run(2)


def test_jax_is_the_gradient_of_any_number_of_entries(net, backprop, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(peers, "JAX_BYTES", 8 * 7 * net.entries)  # in batches of seven
    which = np.random.default_rng(2).permutation(net.entries)[:10]
    assert agree(peers.jax_vmap(net)(which), backprop[which])


def test_a_gradient_times_1_1_is_wrong_in_every_entry(spec, problem, tmp_path):
    report = check(with_wrong_gradient(spec, problem, tmp_path / "wrong.npz"))
    assert report.verdict is Verdict.WRONG
    assert sum(c.wrong.sum() for c in report.comparisons) >= 0.9 * report.entries


# --- layers ------------------------------------------------------------------------------------------------

SMALL = {
    "LeNet": layer_speed.lenet(2, 3, samples=2),
    "convolutions": layer_speed.convolutions(2, samples=2),
    "LSTM": layer_speed.lstm(4, samples=2),
    "transformer block": layer_speed.block(8, samples=2),
}


@pytest.fixture(params=SMALL)
def of_layers(request: pytest.FixtureRequest) -> Problem:
    return build_problem(Spec.model_validate(SMALL[request.param]))


def test_numpy_one_by_one_is_the_gradient_of_layers(of_layers):
    right = gradients(of_layers.network, of_layers.parameters, of_layers.x, of_layers.target)
    flat = np.concatenate([right[name].ravel() for name in of_layers.parameters])
    which = np.random.default_rng(0).permutation(len(flat))[:40]
    assert agree(layer_speed.numpy_one_by_one(of_layers, which), flat[which])


def test_torch_has_the_same_loss_and_gradients_of_layers(of_layers):
    torch = pytest.importorskip("torch")
    right = gradients(of_layers.network, of_layers.parameters, of_layers.x, of_layers.target)
    tensors = {name: torch.tensor(v, requires_grad=True) for name, v in of_layers.parameters.items()}
    loss = layer_speed.torch_loss(of_layers)(tensors)
    loss.backward()
    assert loss.item() == pytest.approx(of_layers.objective.total, rel=1e-13)
    assert all(agree(tensors[name].grad.numpy(), value, 1e-11) for name, value in right.items())


def test_layers_have_a_row_for_each_network():
    head, row = layer_speed.rows({"LSTM": lambda: SMALL["LSTM"]}, seed=0, quick=True, patience=0.0)
    assert row[:2] == ["LSTM", "274"]
    assert len(row) == len(head)


# --- the floor ---------------------------------------------------------------------------------------------


def test_the_floor_counts_what_changes_when_a_unit_is_moved():
    """3-5-4-3 on 6 samples: 15 pairs perturb 5 + 5·4 + 4 tanh, twice, and 5·3 + 4·3 + 3·1 exponentials."""
    counted = work(build_problem(spec_of(*TANH)))
    assert counted.evaluations == {"tanh": 2 * 6 * (5 + 5 * 4 + 4), "exp": 2 * 6 * (5 * 3 + 4 * 3 + 3)}
    assert counted.flops == 2 * (2 * 6 * 5 * (4 * 3)) + 2 * 6 * (3 * 5 + 5 * 4 + 4 * 3)
    assert counted.seconds(Rates({"tanh": 1.0, "exp": 0.0}, 0.0)) == counted.evaluations["tanh"]


def test_units_that_are_off_cost_nothing():
    problem = build_problem(spec_of(*RELU))
    on = int((problem.objective.activity.y[0] > 0).sum())
    assert 0 < on < 36
    assert work(problem).evaluations == {"relu": 2 * on, "exp": 2 * (on * 3 + 6 * 3)}


# --- the extrapolation -------------------------------------------------------------------------------------


def affine(run, entries: int) -> float:
    """Return a clock for a method that takes two seconds plus 10 ms per entry."""
    run(entries)
    return 2.0 + 0.01 * entries


def way_of(entries: int, most: int) -> tuple[Way, list[int]]:
    sizes: list[int] = []
    return Way("a way", sizes.append, entries, most, chunk=10), sizes


def test_runs_within_the_patience_are_complete():
    way, sizes = way_of(1000, most=1000)
    assert look(way, 60.0, affine) == Timing(12.0)
    assert sizes[-1] == 1000


def test_longer_runs_are_extrapolated_from_growing_samples():
    way, sizes = way_of(10**6, most=10**6)
    timing = look(way, 200.0, affine)
    assert timing.extrapolated
    assert timing.seconds == pytest.approx(2.0 + 0.01 * 10**6)
    assert sizes == [10, 10, 40, 160, 640]
    assert str(timing) == "~2.78 h"


def test_a_sample_is_no_larger_than_it_can_be():
    way, sizes = way_of(10**6, most=25)
    assert look(way, 200.0, affine).extrapolated
    assert sizes == [10, 10, 25]


def test_methods_without_samples_are_run_in_full():
    way, sizes = way_of(10**6, most=0)
    assert look(way, 1.0, affine) == Timing(2.0 + 0.01 * 10**6)
    assert sizes == [10**6]


@pytest.mark.parametrize(
    "points",
    [[(100, 1.0)], [(25, 1.5), (100, 1.0)], [(25, 0.1), (100, 1.0)]],
    ids=["a single one", "the larger no longer", "more than in proportion"],
)
def test_noise_is_extrapolated_in_proportion(points):
    assert extrapolate(points, 1000) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("patience", "runs", "seconds"),
    [(600.0, [9.0, 1.0, 3.0, *[2.0] * (ROUNDS - 2)], 2.0), (40.0, [9.0, 5.0], 5.0), (30.0, [9.0], 9.0)],
    ids=["all rounds", "one more", "no more"],
)
def test_a_first_run_counts_only_where_patience_allows_no_other(patience, runs, seconds):
    clock = iter(runs)
    timings = side_by_side([Way("a way", lambda _: None, 1)], patience, lambda run, entries: next(clock))
    assert timings["a way"] == Timing(seconds)


@pytest.mark.parametrize(
    ("seconds", "told"), [(1.5e-5, "15 µs"), (0.012345, "12.3 ms"), (2.0, "2 s"), (7200.0, "2 h")]
)
def test_durations_have_a_suitable_unit(seconds, told):
    assert duration(seconds) == told
