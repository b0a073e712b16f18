"""Mistakes in a loop back through time are named, if every step has an output."""

from __future__ import annotations

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.networks import kinds

Array = np.ndarray
STEPS = 4
RNN = alone([{"rnn": 3}], STEPS, 2)


def rnn(
    carried: bool = True,
    upstream: int = 0,
    ends_early: bool = False,
    only_last: bool = False,
    slope_of: int = 1,
    multiplied: int = 0,
    past: bool = False,
    calls: int = 1,
    rate: float = 0.0,
) -> dict:
    """Return the gradients of h = tanh(w_ih x + b_ih + w_hh h + b_hh).

    carried: whether a step hands its gradient to the step before.  upstream: which output's gradient a step
    adds, counted from its own.  ends_early: whether the loop ends after its first round.  only_last: whether
    the outputs before the last have no gradient of their own.  slope_of: which state tanh's derivative takes,
    counted from hₜ₋₁.  multiplied: which state the recurrent weight's gradient takes, counted the same way.
    past: whether the gradient from the step after is added below tanh.  calls: how often the loop has run,
    if it changes the outputs' gradients in place.  rate: how much of each step's gradient is taken off the
    recurrent weight before dh flows through it.
    """
    p = {name.removeprefix("rnn1."): value for name, value in RNN.parameters.items()}
    x, up, h = RNN.x, RNN.target.copy(), [np.zeros((3, 3))]
    for t in range(STEPS):
        of_x = x[:, t] @ p["weight_ih_l0"].T + p["bias_ih_l0"]
        h.append(np.tanh(of_x + h[-1] @ p["weight_hh_l0"].T + p["bias_hh_l0"]))
    for _ in range(calls - 1):
        handed = np.zeros((3, 3))
        for t in reversed(range(STEPS)):
            up[:, t] += handed
            handed = (up[:, t] * (1 - h[t + 1] ** 2)) @ p["weight_hh_l0"]
    found = {name: np.zeros_like(value) for name, value in p.items()}
    dx, dh = np.zeros_like(x), np.zeros((3, 3))
    for t in reversed(range(STEPS)):
        if 0 <= t + upstream < STEPS and not (only_last and t < STEPS - 1):
            dh = dh + up[:, t + upstream]
        slope = 1 - h[t + slope_of] ** 2
        dz = up[:, t] * slope + dh - up[:, t] if past else dh * slope
        found["weight_ih_l0"] += dz.T @ x[:, t]
        found["weight_hh_l0"] += dz.T @ h[t + multiplied]
        for name in ("bias_ih_l0", "bias_hh_l0"):
            found[name] += dz.sum(axis=0)
        p["weight_hh_l0"] = p["weight_hh_l0"] - rate * dz.T @ h[t]
        dx[:, t] = dz @ p["weight_ih_l0"]
        dh = dz @ p["weight_hh_l0"] if carried else np.zeros_like(dh)
        if ends_early:
            break
    return {**{f"rnn1.{name}": value for name, value in found.items()}, "input": dx}


def test_the_loop_by_hand_is_right():
    for name, gradient in rnn().items():
        np.testing.assert_allclose(gradient, exact(RNN)[name], rtol=1e-10)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("gradient not carried back", {"carried": False}),
        ("returned inside the loop", {"ends_early": True}),
        ("gradients of earlier outputs lost", {"only_last": True}),
        ("upstream of another step", {"upstream": 1}),
        ("upstream of another step", {"upstream": -1}),
        ("state of another step", {"slope_of": 0}),
        ("state of another step", {"multiplied": 1}),
        ("carried gradient past the activation", {"past": True}),
        ("upstream changed in place", {"calls": 2}),
        ("weights updated first", {"rate": 0.03}),
    ],
)
def test_a_mistake_in_the_loop_is_named_first(kind, wrong):
    found = why_alone(RNN, rnn(**wrong))
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].where == ("rnn1",)
