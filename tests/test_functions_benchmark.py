"""The functions benchmark's right gradients are right; a small share of it runs here."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

import functions as benchmark
from functions import (
    Trial,
    candidates,
    conventional,
    drawn,
    effect,
    examine,
    replayed,
    slopes,
    targets,
    visible,
)
from kinds import attention, dense, formulas, images, kinks, norms, recurrent
from kinds.function import Arrays, Function
from kinds.subjects import RIGHT, Mistake, Python
from kinds.table import KINDS, NUMPY

MODULES = (attention, dense, formulas, images, kinks, norms, recurrent)
BY_HAND = [kind.name for kind in NUMPY]
ON_KINKS = ["max pool, ties", "dead relu", "on a kink"]
"""Kinds at points where autograd may choose another slope."""


# --- the right ones are right ------------------------------------------------------------------------------


def autograd(function: Function, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """Return the gradient by torch, which replaces numpy in the forward pass."""
    torch, numpy = pytest.importorskip("torch"), pytest.importorskip("torch._numpy")
    leaves = {n: torch.tensor(v, requires_grad=True) for n, v in function.parameters.items()}
    data = {name: numpy.asarray(value) for name, value in function.data.items()}
    with monkeypatch.context() as patched:
        for module in MODULES:
            patched.setattr(module, "np", numpy)
        losses, _ = function.forward({name: numpy.ndarray(leaf) for name, leaf in leaves.items()}, data)
    losses.tensor.sum().backward()
    return {n: np.zeros(t.shape) if t.grad is None else t.grad.numpy() for n, t in leaves.items()}


@pytest.mark.parametrize("name", [name for name in BY_HAND if name not in ON_KINKS])
@pytest.mark.parametrize("seed", range(2))
def test_the_right_backward_is_that_of_autograd(name, seed, monkeypatch):
    subject = drawn(name, seed)
    assert effect(subject.gradients(RIGHT), autograd(subject.function, monkeypatch)) < 1e-9


@pytest.mark.parametrize("name", ON_KINKS)
@pytest.mark.parametrize("seed", range(2))
def test_on_a_kink_the_right_one_lies_between_the_slopes_of_both_sides(name, seed):
    subject = drawn(name, seed)
    for tensor, gradient in subject.gradients(RIGHT).items():
        for i, value in enumerate(gradient.ravel()):
            low, high = sorted(slopes(subject, tensor, i))
            slack = 1e-5 * (1.0 + np.abs(gradient).max())
            assert low - slack <= value <= high + slack


# --- the planted ones are wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_slip_can_be_seen_in_some_function(name):
    kind, unseen = KINDS[name], set(KINDS[name].slips)
    for seed in range(60):
        if not unseen:
            return
        subject = drawn(name, seed)
        unseen = {slip for slip in unseen if not visible(kind, subject, Mistake(slip, slip))}
    assert not unseen


def test_what_is_drawn_follows_from_the_kind_and_the_seed():
    for name in ("dense", "attention"):
        one, again, other = (drawn(name, seed) for seed in (3, 3, 4))
        assert effect(one.exact(), again.exact()) == 0.0
        assert {n: v.shape for n, v in one.exact().items()} != {n: v.shape for n, v in other.exact().items()}
        mistakes = [[m.of(s.gradients(m)) for m in candidates(KINDS[name], s, 3)] for s in (one, again)]
        for first, second in zip(*mistakes, strict=True):
            np.testing.assert_equal(first, second)


def of_one(loss, gradient, *numbers: float) -> Python:
    """Return a subject with a single tensor, w."""
    return Python(
        Function(
            {"w": np.array(numbers)},
            {},
            lambda p, d: (loss(p["w"]), None),
            lambda p, d, saved, slip: {"w": gradient(p["w"])},
        ),
        np.float64,
        terms=True,
    )


@pytest.mark.parametrize(
    ("at", "planted", "expected"),
    [(0.0, -1.0, True), (0.0, 0.3, True), (0.0, 1.5, False), (0.5, 0.3, False), (0.5, 1.0, True)],
)
def test_another_slope_between_those_of_a_kink_is_a_convention(at, planted, expected):
    subject = of_one(np.abs, np.sign, at, 2.0)

    def change(gradient):
        return np.array([planted, gradient[1]])

    assert conventional(subject, Mistake("planted", tensor="w", change=change)) is expected


@pytest.mark.parametrize(("off", "expected"), [(3e-4, True), (3e-5, False), (np.nan, True)])
def test_a_mistake_is_seen_from_a_ten_thousandth_of_the_largest_entry(off, expected):
    subject = of_one(np.square, lambda w: 2.0 * w, 1.0, 0.1)

    def change(gradient):
        return gradient + np.array([0.0, 2.0 * off])

    assert visible(KINDS["dense"], subject, Mistake("planted", tensor="w", change=change)) is expected


# --- verdicts, and what is made of them --------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_no_verdict_is_false(name):
    trials = examine((name, 1, 1))
    assert len(trials) == 2
    assert not [remark for remark in benchmark.remarks(trials) if not remark.startswith("right, and")]


def trial(kind: str, verdict: str, mistake: str = "") -> Trial:
    return Trial(kind, 7, mistake, False, verdict, 20, 4, 0.5)


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        ([trial("dense", "agrees"), trial("dense", "wrong", "sign")], []),
        ([trial("dense", "wrong")], [0]),
        ([trial("dense", "unresolved")], [1]),
        ([trial("dense", "refused")], [1]),
        ([trial("dense, float16", "unresolved")], []),
        ([trial("dense", "agrees")] * 97 + [trial("dense", "unresolved")] * 3, []),
        ([trial("dense", "agrees")] * 96 + [trial("dense", "unresolved")] * 4, [1]),
        ([trial("dense", "agrees", "sign")], [2]),
        ([trial("dense", "unresolved", "sign"), trial("dense", "convention", "sign")], []),
        ([trial("dense", "raised", "sign")], [3]),
    ],
)
def test_a_target_is_missed_by_a_single_false_verdict(found, missed):
    assert [i for i, target in enumerate(targets(found)) if not target.met] == missed


def test_a_false_verdict_is_printed_so_that_it_can_be_replayed():
    wrong, passed = benchmark.remarks([trial("max pool, ties", "wrong"), trial("rnn", "agrees", "b: sign")])
    assert wrong == "FALSE: right, and called wrong: --replay 'max pool, ties:7'"
    assert passed == "FALSE: wrong, and passed: --replay 'rnn:7:b: sign'"
    assert replayed("scalars:7").startswith("scalars:7: agrees, off by 0.0e+00;")
    assert replayed("scalars:7:2 forgotten").startswith("scalars:7:2 forgotten: wrong, off by 5.0e-01;")


def test_the_command_prints_a_line_for_each_kind_and_the_targets(capsys):
    how = ["--right", "2", "--planted", "2", "--seed", "1", "--jobs", "1"]
    assert benchmark.main([*how, "--kinds", "scalars", "cosine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 functions of 2 kinds from --seed 1"
    assert [line.split()[0] for line in lines[3:7]] == ["scalars", "cosine", "all", "all"]
    assert all(line.startswith("✓") for line in lines[-4:])
