"""Values that tie for a maximum: each window may choose on its own, and right weights have a sum of 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from judged import Undiagnosed

from gradcheck_cli import Verdict
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.reference import UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.subject.network import network_subject


def subject(*layers, **rest):
    """A network with biases of 0, as a subject, a problem and a spec."""
    rest |= {"parameters": {"init": "xavier", "seed": 3}, "loss": "mse"}
    problem, spec = problem_of(*layers, **rest), spec_of(*layers, **rest)
    return Undiagnosed.of(network_subject(spec, problem)), problem, spec


def three_pieces():
    """Maxout of a sample of zeros: the three pieces of each of two units are 0, whatever the weights are."""
    data = {"x": [[0.0, 0.0], [1.0, -2.0]], "y": [[1.0], [-1.0]]}
    return subject({"maxout": 2, "pieces": 3}, {"units": 1}, inputs=2, data=data)


def verdict(of, spec, problem, **gradients):
    values = {**right_gradients(problem), **gradients}
    return replace(of, analytic=Analytic(values, of.analytic.dtypes, "a test")).check(spec.check).verdict


def tied_bias(weights):
    """The gradient of maxout's bias, with these weights for the pieces that tie in sample 0, (2, 3)."""
    of, problem, spec = three_pieces()
    right = right_gradients(problem)["maxout1.bias"].reshape(2, 3)
    x, p = problem.x, problem.parameters
    delta = 2.0 / 2 * (problem.objective.output - problem.target) @ p["output.weight"]
    own = right - np.outer(delta[0], [1.0, 0.0, 0.0])  # what sample 1 adds; the first piece has the tie
    assert not x[0].any()
    return of, problem, spec, (own + delta[0][:, None] * np.asarray(weights)).ravel()


def verdict_of_tied_bias(weights):
    of, problem, spec, bias = tied_bias(weights)
    return verdict(of, spec, problem, **{"maxout1.bias": bias})


FIRST, MIDDLE, LAST, EQUAL = [1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]


@pytest.mark.parametrize("weights", [FIRST, LAST, EQUAL], ids=["first", "last", "equal"])
def test_a_usual_choice_among_three_ties_agrees(weights):
    assert verdict_of_tied_bias([weights, weights]) is Verdict.AGREES


@pytest.mark.parametrize("weights", [[FIRST, LAST], [MIDDLE, FIRST]])
def test_each_unit_may_choose_another_tie(weights):
    """Rounding or the order of a search decides which one code takes."""
    assert verdict_of_tied_bias(weights) is Verdict.AGREES


@pytest.mark.parametrize("weights", [[MIDDLE, EQUAL], [[0.2, 0.3, 0.5], [0.0, 0.9, 0.1]]])
def test_no_weights_with_a_sum_of_1_are_called_wrong(weights):
    assert verdict_of_tied_bias(weights) is not Verdict.WRONG


@pytest.mark.parametrize("weights", [[[2, 0, 0], FIRST], [[0, 0, 0], [0, -0.5, 0]], [FIRST, [1, 1.2, 1]]])
def test_a_weight_outside_0_to_1_is_wrong(weights):
    assert verdict_of_tied_bias(weights) is Verdict.WRONG


def test_windows_choose_one_by_one():
    """Code that looks for a maximum by columns picks the first of one tie and the last of another one."""
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    x[0, 0] = [[5.0, 5.0], [0.0, 0.0]]
    rest = {"inputs": [2, 2, 2], "check": {"inputs": True}}
    data = {"x": x.reshape(1, -1).tolist(), "y": [[0.5]]}
    of, problem, spec = subject({"max_pool2d": 2}, {"flatten": True}, {"units": 1}, data=data, **rest)
    delta = 2.0 * (problem.objective.output - problem.target) @ problem.parameters["output.weight"]
    by_columns = np.zeros((1, 2, 2, 2))
    by_columns[0, 0, 0, 0] = delta[0, 0]  # the first of the tie, in either order
    by_columns[0, 1, 1, 0] = delta[0, 1]  # the first by columns, the last by rows
    assert verdict(of, spec, problem, input=by_columns) is Verdict.AGREES
    assert verdict(of, spec, problem, input=-by_columns) is Verdict.WRONG


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_relus_convention_does_not_depend_on_the_ties(share):
    """relu'(0) and the choice among ties are two conventions, which code may combine as it likes."""
    data = {"x": [[0.0, 0.0], [1.0, 2.0]], "y": [[1.0], [-1.0]]}
    layers = {"units": 2, "activation": "relu"}, {"maxout": 1, "pieces": 2}, {"units": 1}
    of, problem, spec = subject(*layers, inputs=2, data=data)
    p = problem.parameters
    dL_dout = 2.0 / 2 * (problem.objective.output - problem.target)[0, 0] * p["output.weight"][0, 0]
    right = right_gradients(problem)
    first, last = p["maxout1.weight"]
    for among in ([0.0, 1.0], [0.5, 0.5]):
        of_pieces = dL_dout * np.array(among)
        moved = {
            "maxout1.bias": right["maxout1.bias"] + of_pieces - dL_dout * np.array([1.0, 0.0]),
            "hidden1.bias": right["hidden1.bias"] + share * (of_pieces[0] * first + of_pieces[1] * last),
        }
        assert verdict(of, spec, problem, **moved) is Verdict.AGREES


@pytest.mark.parametrize("weights", [[[1, 1, 0], FIRST], [[1, 1, 1], EQUAL], [[0, 0, 0], LAST]])
def test_weights_without_a_sum_of_1_are_wrong(weights):
    """Each entry on its own could be right: it is δ or 0, as under a usual choice."""
    assert verdict_of_tied_bias(weights) is Verdict.WRONG


@pytest.mark.parametrize(
    "layer", [{"max_pool2d": 2}, {"adaptive_max_pool2d": 1}, {"conv2d": 1, "kernel": 1, "activation": "relu"}]
)
def test_a_float32_gradient_on_a_kink_may_round_under_every_convention(layer):
    """The gradient under gradcheck's own convention is 0 there, but the bound must allow for the others."""
    x = [[0.0] * 4, [1.0, 2.0, 3.0, 4.0]]
    data = {"x": x, "y": [[0.3], [-0.1]]}
    problem = problem_of(layer, {"flatten": True}, {"units": 1}, inputs=[1, 2, 2], data=data)
    arithmetic = Arithmetic.of(np.dtype(np.float32))
    whole = problem.with_shifts({"input": 0})
    bounds = gradient_rounding(whole.network, whole.parameters, whole.x, whole.target, arithmetic)
    assert (bounds["input"][0] > 1e-9).all()


def test_an_arbitrary_choice_at_each_tie_agrees_below_a_steep_normalisation():
    """Each window of zeros may choose any of its values, however many steps the slopes there need."""
    zeros, x = [0.0, 0.0, 0.0], [1.0, -1.0, 0.0]
    data = {"x": [zeros, zeros, zeros, x], "y": [[0.2], [0.9], [0.4], [0.1]]}
    layers = {"max_pool1d": 3}, "flatten", {"rms_norm": True, "eps": 1e-4}, {"units": 1}
    of, problem, spec = subject(*layers, inputs=[1, 3], data=data, check={"inputs": True})
    values = {**right_gradients(problem), "input": of.analytic.values["input"].copy()}
    of_x = values["input"].reshape(4, 3)
    for sample, chosen in enumerate([1, 0, 2]):
        of_x[sample, [0, chosen]] = of_x[sample, [chosen, 0]]
    analytic = Analytic(values, of.analytic.dtypes, "a test")
    assert replace(of, analytic=analytic).check(spec.check).verdict is Verdict.AGREES


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_a_slope_that_is_too_steep_for_differences_is_not_called_wrong(slope):
    """Differences see only the side of relu whose slope is 0; on the other side, the loss bends at 1e-16."""
    data = {"x": [[0.0, 0.0], [1.0, -2.0]], "y": [[1.0, 2.0], [-1.0, 0.5]]}
    layers = {"units": 2}, {"rms_norm": True, "elementwise_affine": False}, {"units": 2, "activation": "relu"}
    rest = {"parameters": {"init": "xavier", "seed": 3, "bias": "zeros"}, "loss": "cosine"}
    problem, spec = problem_of(*layers, inputs=2, data=data, **rest), spec_of(*layers, data=data, **rest)
    of = Undiagnosed.of(network_subject(spec, problem))
    right = right_gradients(problem)
    lifted = {**problem.parameters, "output.bias": np.full(2, 1e-20)}
    on = right_gradients(replace(problem, parameters=lifted))["hidden1.bias"]
    assert np.abs(on).max() > 1e10
    bias = (1.0 - slope) * right["hidden1.bias"] + slope * on
    assert verdict(of, spec, problem, **{"hidden1.bias": bias}) is not Verdict.WRONG


def test_a_slope_that_its_error_bar_hides_is_unknown_at_a_kink(monkeypatch):
    """An estimate of 500 ± 1,000 excludes no gradient, however precise it looks without its error."""
    of, *_ = three_pieces()
    (use,) = of.objective.uses("output.weight")
    fed = np.ones(of.objective.site_shape(use.site), dtype=bool)
    for value, error, known in [(2.0, 1e-3, True), (500.0, 1e3, False), (0.0, 1e-7, True), (0.0, 1e3, False)]:
        found = Estimate(np.array([1.0, value]), np.array([1e-9, error]))
        monkeypatch.setattr(UnitDifferences, "_look", lambda *_, found=found: found)
        differences = UnitDifferences(of.objective, SCHEMES["adaptive"])
        slopes = differences._slopes_of_pairs(use.site, fed, of.objective).value
        assert slopes.ravel().tolist() == [1.0, value] if known else np.isnan(slopes.ravel()[1])
