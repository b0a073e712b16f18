"""Patterns of functions are named where they are planted, and nowhere else."""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import pytest
from paths import ROOT

from gradcheck_cli import (
    UndecidedGradientError,
    Verdict,
    WrongGradientError,
    check_gradients,
    check_jax,
    check_layer,
    check_torch,
)
from gradcheck_cli.diagnose.wrong_functions import DETACHED, MISSING_CONJUGATE, PATTERNS

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

from planted_patterns.case import named, unchanged
from planted_patterns.plants import PLANTS, others
from planted_patterns.steps import flat_places


def test_every_pattern_is_planted():
    assert set(PLANTS) == {row.kind for row in PATTERNS}


@pytest.mark.parametrize("k", range(2))
@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_pattern_is_named(kind, k):
    """The first plants are functions of numpy where that is possible, so jax is not imported."""
    if kind in (DETACHED.kind, MISSING_CONJUGATE.kind):
        pytest.importorskip("torch")
    case, change = next(islice(PLANTS[kind](), 4 * k, None))
    assert named(case.run(change)) == {kind}


@pytest.mark.parametrize("k", range(8))
def test_no_other_mistake_gets_the_name_of_a_pattern(k):
    _, case, change = list(others())[5 + 67 * k]
    assert not named(case.run(change)) & set(PLANTS)


@pytest.mark.parametrize("case", list(islice(flat_places(), 3)), ids=lambda case: case.name)
def test_a_loss_that_is_only_flat_here_is_no_staircase(case):
    report = case.run(unchanged)
    assert report.verdict is Verdict.WRONG
    assert not named(report)


# --- what is said -------------------------------------------------------------------------------------------


def told(check, *given) -> tuple[str, ...]:
    with pytest.raises(WrongGradientError) as caught:
        check(*given)
    diagnosis = caught.value.report.diagnosis
    return (*(cause.sentence for cause in diagnosis.answers[0].causes), *diagnosis.observations)


def test_a_staircase_that_leaves_entries_unresolved_gets_a_note():
    with pytest.raises(UndecidedGradientError) as caught:
        check_gradients(lambda x: ((np.round(8 * x) ** 2).sum(), 16 * np.round(8 * x)), np.array([0.3, -0.7]))
    (note,) = caught.value.report.unusual
    assert note.startswith("the loss is a staircase in parameters: it does not change")
    assert "differs from that derivative by design. Rounding to few digits" in note


def test_a_gradient_of_0_that_is_undecided_on_a_staircase_gets_a_note():
    rng = np.random.default_rng(1076)
    x = rng.integers(-3, 3, size=4) + rng.uniform(0.1, 0.9, size=4)  # no step from one stair to the next
    with pytest.raises(UndecidedGradientError) as caught:
        check_gradients(lambda x: (np.floor(x).sum(), np.zeros(4)), x)
    assert any("the loss is a staircase in parameters" in note for note in caught.value.report.unusual)


def test_a_function_that_fails_at_other_points_keeps_its_verdict():
    at = np.array([0.999, -0.5])

    def function(p):
        if (np.abs(p) >= 1.0).any():
            raise ValueError("out of range")
        return np.arcsin(p).sum(), 1.5 / np.sqrt(1.0 - p * p)

    with pytest.raises(WrongGradientError):
        check_gradients(function, at)


def test_a_crash_while_patterns_are_looked_for_is_not_hidden(monkeypatch):
    def broken(*_):
        return {}["missing"]

    monkeypatch.setattr("gradcheck_cli.subject.few_slopes._parts", broken)
    with pytest.raises(KeyError, match="missing"):
        check_gradients(lambda p: (np.sin(p).sum(), 1.5 * np.cos(p)), np.array([0.3, -0.5]))


def test_a_staircase_and_another_mistake_are_both_said():
    def loss(p):
        return float((np.sign(p["w"]) * p["b"]).sum() ** 2)

    def gradients(p):
        d = 2 * (np.sign(p["w"]) * p["b"]).sum()
        return {"w": d * p["b"], "b": 3 * d * np.sign(p["w"])}

    at = {"w": np.array([0.5, -0.2, 0.7]), "b": np.array([0.3, 0.8, -0.4])}
    mistake, stairs = told(lambda p: check_gradients(lambda q: (loss(q), gradients(q)), p), at)
    assert mistake == "The gradient of b is 3 times too large, as if it had been accumulated 3 times."
    assert stairs.startswith("The loss is a staircase in w: ")


def test_a_carry_that_backward_leaves_out_is_named_as_an_output_not_as_samples():
    def forward(x, c, f):
        new = f * c + np.tanh(x)
        return np.sin(new), new, (x, c, f, new)

    def backward(dh, dc, cache):
        x, c, f, new = cache
        dc = dh * np.cos(new)  # the carry dc is lost
        return dc / np.cosh(x) ** 2, dc * f, dc * c

    inputs = dict(zip("xcf", np.random.default_rng(1128).normal(size=(3, 4, 5)), strict=True))
    (sentence,) = told(check_layer, forward, backward, inputs)
    assert sentence.startswith("The gradient of x, c and f lacks the contribution of the second output")


@pytest.mark.parametrize("left_out", range(2))
def test_an_output_that_a_rule_of_jax_leaves_out_is_named(left_out):
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def two(x):
        return jax.numpy.sin(x), jax.numpy.cos(x)

    slopes = (lambda x, g: g[1] * -jax.numpy.sin(x), lambda x, g: g[0] * jax.numpy.cos(x))
    two.defvjp(lambda x: (two(x), x), lambda x, g: (slopes[left_out](x, g),))
    (sentence,) = told(check_jax, two, np.random.default_rng(1143).uniform(0.3, 1.2, size=6))
    assert f"lacks the contribution of the {('first', 'second')[left_out]} output" in sentence


def test_the_triangle_that_the_loss_depends_on_is_named():
    torch = pytest.importorskip("torch")
    half = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = half @ half.T + torch.eye(3, dtype=torch.float64)
    (sentence,) = told(check_torch, lambda a: torch.linalg.cholesky(a).sum(), {"a": (a + a.T) / 2})
    assert sentence == (
        "The gradient of a is right if a stays symmetric while it changes, but not entry by entry, "
        "since the loss depends only on the lower triangle."
    )


def test_the_line_that_detaches_is_named_and_others_are_not():
    torch = pytest.importorskip("torch")

    def function(x):
        largest = x.max().detach()  # it does not matter: softmax stays the same
        gate = torch.sigmoid(x).detach()
        return (x - largest).softmax(0) * gate

    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    (sentence,) = told(check_torch, function, {"x": x})
    line = function.__code__.co_firstlineno + 2
    assert sentence == (
        f"A branch is detached: without detach() in test_patterns.py:{line}, the gradient of x is right."
    )


def test_two_lines_that_detach_are_named_together():
    torch = pytest.importorskip("torch")

    def function(x):
        one = torch.sigmoid(x).detach()
        with torch.no_grad():
            other = x**2
        return x * one + other

    (sentence,) = told(check_torch, function, {"x": torch.linspace(-1, 1, 5, dtype=torch.float64)})
    assert "without detach() in test_patterns.py" in sentence
    assert ", no_grad() in test_patterns.py" in sentence


def test_what_is_not_verified_is_not_named():
    """The rule is wrong, and the detached maximum changes nothing."""
    torch = pytest.importorskip("torch")

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, upstream):
            return 2 * ctx.saved_tensors[0] ** 2 * upstream

    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    (sentence,) = told(check_torch, lambda x: Cube.apply((x - x.max().detach()).softmax(0)), {"x": x})
    assert sentence == "The gradient is 0.666667 times what it should be."


@pytest.mark.parametrize("seed", [5, 11])
def test_stairs_of_half_precision_are_not_blamed_for_a_wrong_sign(seed):
    """Rounding makes the loss a staircase, but the slope across the stairs shows that the sign is wrong."""
    rng = np.random.default_rng(seed)
    x, y, w = (rng.normal(size=(n, 3)) for n in (6, 6, 3))

    def squares(w):
        e = (x.astype(np.float16) @ w.astype(np.float16)).astype(np.float64) - y
        return 0.5 * (e**2).sum(axis=1), -x.T @ e

    with pytest.raises(WrongGradientError) as caught:
        check_gradients(squares, w)
    assert "staircase" not in str(caught.value)
