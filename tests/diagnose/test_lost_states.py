"""Gradients that no time step hands to the one before are named, and found without many sweeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.networks import kinds

from gradcheck_cli.diagnose.consequences import Consequences
from gradcheck_cli.diagnose.endings import Endings
from gradcheck_cli.diagnose.graph_search import GraphSearch
from gradcheck_cli.diagnose.loops import in_loops
from gradcheck_cli.diagnose.rounds import carried
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import pass_through
from gradcheck_cli.mutate.plant_in_graph import planted_in_steps
from gradcheck_cli.network.steps.gates import Multiply
from gradcheck_cli.problem.problem import Problem

Array = np.ndarray
STEPS = 4
GRU = alone([{"gru": 3}], STEPS, 2)
LSTM = alone([{"lstm": 3}], STEPS, 2)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def gru(carries: bool = True, flat_spot: float = 0.0) -> dict[str, Array]:
    """Return the gradients of a GRU by hand.

    carries: whether a time step hands its gradient to the one before.  flat_spot: added to the tanh's slope.
    """
    p = {name.removeprefix("gru1."): value for name, value in GRU.parameters.items()}
    x, upstream, h, kept = GRU.x, GRU.target, np.zeros((3, 3)), []
    for t in range(STEPS):
        of_x = np.split(x[:, t] @ p["weight_ih_l0"].T + p["bias_ih_l0"], 3, axis=1)
        of_h = np.split(h @ p["weight_hh_l0"].T + p["bias_hh_l0"], 3, axis=1)
        r, z = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        n = np.tanh(of_x[2] + r * of_h[2])
        kept.append((h, of_h[2], r, z, n))
        h = (1 - z) * n + z * h
    found = {name: np.zeros_like(value) for name, value in p.items()}
    dx, dh = np.zeros_like(x), np.zeros((3, 3))
    for t in reversed(range(STEPS)):
        before, of_h, r, z, n = kept[t]
        dh = dh + upstream[:, t]
        dn, dz = dh * (1 - z) * (1 - n * n + flat_spot), dh * (before - n) * z * (1 - z)
        dr = dn * of_h * r * (1 - r)
        to_x, to_h = np.hstack([dr, dz, dn]), np.hstack([dr, dz, dn * r])
        found["weight_ih_l0"] += to_x.T @ x[:, t]
        found["weight_hh_l0"] += to_h.T @ before
        found["bias_ih_l0"] += to_x.sum(axis=0)
        found["bias_hh_l0"] += to_h.sum(axis=0)
        dx[:, t] = to_x @ p["weight_ih_l0"]
        dh = to_h @ p["weight_hh_l0"] + dh * z if carries else np.zeros_like(dh)
    return {**{f"gru1.{name}": value for name, value in found.items()}, "input": dx}


def test_the_gru_by_hand_is_right():
    for name, gradient in gru().items():
        np.testing.assert_allclose(gradient, exact(GRU)[name], rtol=1e-9, atol=1e-12)


def test_a_gru_that_hands_no_gradient_to_the_time_step_before_is_named():
    cause = why_alone(GRU, gru(carries=False)).answers[0].causes[0]
    assert (cause.kind, cause.where) == ("gradient not carried back", ("gru1",))
    assert "no gradient flows from a time step to the preceding one" in cause.sentence


def test_an_unknown_that_every_round_of_a_loop_repeats_is_solved_for():
    cause = why_alone(GRU, gru(flat_spot=0.07)).answers[0].causes[0]
    assert (cause.kind, cause.where) == ("flat spot added", ("gru1",))
    assert cause.value == pytest.approx(0.07, rel=1e-8)


@pytest.mark.parametrize(("of", "expected"), [(GRU, {"hₜ₋₁": 2}), (LSTM, {"hₜ₋₁": 1, "cₜ₋₁": 1})])
def test_the_state_is_what_a_round_takes_from_an_earlier_one(of, expected):
    nodes = of.network.graph.nodes
    states = [nodes[nodes[i].inputs[slot] - 1].symbol for i, slot in carried(nodes)]
    assert {f"{each}ₜ₋₁": states.count(each) // (STEPS - 1) for each in states} == expected


def test_two_levels_in_two_directions_carry_two_states_each():
    nodes = alone([{"lstm": 2, "num_layers": 2, "bidirectional": True}], STEPS, 2).network.graph.nodes
    assert len(carried(nodes)) == 2 * 4 * (STEPS - 1)


def test_layers_without_a_loop_carry_nothing():
    nodes = alone([{"attention": 2}, {"units": 2}, {"units": 2}], STEPS, 2).network.graph.nodes
    assert not carried(nodes)


# --- consequences ------------------------------------------------------------------------------------------


def search_of(of: Problem, found: dict[str, Array]) -> GraphSearch:
    right = {name: matrix(exact(of)[name]) for name in of.parameters}
    targets = {
        name: Target(name, found[name], value, 1e-14 * np.abs(value) + 1e-16, 1e-8)
        for name, value in right.items()
    }
    return GraphSearch(pass_through(of, found), targets, frozenset())


def test_what_a_mistake_changes_is_what_a_backprop_with_it_gives():
    planted = [each for each in planted_in_steps(LSTM, {Multiply}) if not each.wrong.unknown]
    for plant in planted[::4]:
        search = search_of(LSTM, dict(plant.gradients))
        tests = Consequences(
            search._right_visits, search.targets, Endings(search.at, search.targets, frozenset()).complete
        )
        known = [each for each in in_loops(search._loops, search._variants) if not each.variant.wrong.unknown]
        fitting = {each.variant.wrong for each in known if tests.reproduce(each)}
        assert plant.wrong in fitting or not any(each.variant.wrong is plant.wrong for each in known)
        assert len(fitting) < len(known) / 4


def test_a_mistake_in_the_outputs_of_a_long_loop_needs_few_visits():
    of = alone([{"lstm": 3}], 10, 2)
    shifted = np.concatenate([of.target[:, 1:], np.zeros_like(of.target[:, :1])], axis=1)
    found = why_alone(of, exact(replace(of, target=shifted)))
    assert kinds(found)[0] == ("upstream of another step",)
    assert found.tried < 30 * len(of.network.graph.nodes)
