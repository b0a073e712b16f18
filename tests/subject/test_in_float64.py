"""Gradients in float32 that rounding leaves undecided, and that agree in float64."""

from __future__ import annotations

import pytest

from gradcheck_cli import Verdict, check_torch

torch = pytest.importorskip("torch")
nn = torch.nn


def undecided(factor):
    """Check a layer whose scale is undone by the next layer, so that its gradient is nearly 0.

    factor: the factor by which the gradient is off.
    """
    torch.manual_seed(0)
    module = nn.Sequential(nn.GroupNorm(2, 4), nn.BatchNorm1d(4), nn.Tanh())
    module[0].weight.register_hook(lambda gradient: factor * gradient)
    return check_torch(module, x=torch.randn(6, 4), only="0.weight", allow_undecided=True)


def test_a_gradient_that_only_rounding_leaves_undecided_gets_a_note():
    report = undecided(1.0)
    assert report.verdict is Verdict.UNRESOLVED
    (note,) = report.unusual
    assert note.startswith("in float64, the gradient of 0.weight agrees")


def test_an_undecided_gradient_that_is_wrong_in_float64_gets_no_such_note():
    assert not any("in float64" in note for note in undecided(1.004).unusual)
