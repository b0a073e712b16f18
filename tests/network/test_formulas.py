"""The formulas of every step: each argument has one, and it says what the step does."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from step_examples import EVERY, drawn_from

from gradcheck_cli.network import steps
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.linear import Linear

_BASES = {Step, Linear}
"""Classes that are no kind of step: others derive from them, and they have no forward pass of their own."""


def kinds() -> set[type[Step]]:
    """Return every class of step in the package."""
    for module in pkgutil.iter_modules(steps.__path__, f"{steps.__name__}."):
        importlib.import_module(module.name)
    found, waiting = set(), [Step]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += [each for each in kind.__subclasses__() if each.__module__.startswith("gradcheck_cli.")]
    return {kind for kind in found - _BASES if not kind.__name__.startswith("_")}


@pytest.mark.parametrize("kind", sorted(kinds(), key=lambda kind: kind.__name__))
def test_every_kind_of_step_has_formulas(kind):
    assert hasattr(kind, "formulas"), f"add formulas to {kind.__name__}: explain derives every layer"


@pytest.fixture(params=EVERY)
def drawn(request):
    return drawn_from(EVERY[request.param][0], 0)


def arguments(drawn):
    """Yield each argument's formulas, and ∂L/∂argument for the upstream gradient g."""
    step, p, inputs = drawn.step, drawn.parameters, drawn.inputs
    out = step.forward(p, *inputs)
    g = np.random.default_rng(3).normal(size=out.shape)
    handed, own = step.vjp(p, inputs, out, g)
    yield from ((step.formulas.input(i), share, g) for i, share in enumerate(handed))
    yield from ((step.formulas.parameters[name], gradient, g) for name, gradient in own.items())


def test_every_argument_has_its_formulas(drawn):
    formulas, step = drawn.step.formulas, drawn.step
    assert set(formulas.parameters) == set(step.shapes)
    assert formulas.inputs
    assert formulas.symbol
    assert not formulas.where or formulas.where.startswith("with ")


def test_every_template_can_be_filled(drawn):
    formulas, named = drawn.step.formulas, {"g": "GRADIENT", "local": "LOCAL"}
    inputs = [f"input{i}" for i in range(len(drawn.inputs))]
    out = formulas.filled(formulas.out, "out", inputs)
    assert out
    assert "{" not in out
    for argument, _, _ in arguments(drawn):
        local = formulas.filled(argument.local, "out", inputs)
        product = formulas.filled(argument.product, "out", inputs, **named)
        assert local
        assert "GRADIENT" in product or argument.product == "0"


def test_a_gradient_that_is_said_to_be_0_or_passed_on_is(drawn):
    for argument, gradient, g in arguments(drawn):
        if argument.product == "0":
            assert not gradient.any()
        if argument.product in ("{g}", "−{g}"):
            sign = -1 if argument.product.startswith("−") else 1
            np.testing.assert_array_equal(gradient, sign * g)


def test_a_step_that_moves_only_puts_numbers_elsewhere(drawn):
    if drawn.step.formulas.moves:
        (x,) = drawn.inputs
        np.testing.assert_array_equal(np.sort(drawn.step.forward({}, x).ravel()), np.sort(x.ravel()))
