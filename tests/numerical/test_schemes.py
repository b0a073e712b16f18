from __future__ import annotations

import numpy as np
import pytest
from new_rows import NEW_SCHEMES

from gradcheck_cli.numerical.estimate import differentiate
from gradcheck_cli.numerical.objective import ALONE, Moved
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES

EPS = float(np.finfo(np.float64).eps)
ROWS = {**SCHEMES, **NEW_SCHEMES}


class Scalars:
    """The function exp at some points, as a movable."""

    def __init__(self, *points: float) -> None:
        self.position = np.array(points)
        self.unit = np.ones(len(points))
        self.batch = 2
        self.rest, self.exact, self.spread = None, True, ALONE

    def move(self, which, to):
        return Moved(np.exp(to), np.exp(np.real(to)), np.zeros(len(which), dtype=bool))


@pytest.mark.parametrize("name", ROWS)
def test_stencil_satisfies_the_conditions_of_its_order(name):
    scheme = ROWS[name]
    offsets, weights = np.array(scheme.offsets), np.array(scheme.weights)
    for k in range(scheme.order + 1):
        assert np.real((weights * offsets**k).sum()) == pytest.approx(float(k == 1), abs=1e-15), k
    k = scheme.order + 1
    assert abs(np.real((weights * offsets**k).sum())) > 1e-3, "the order is not higher than it says"


@pytest.mark.parametrize("name", [name for name in ROWS if not ROWS[name].extrapolate])
def test_error_falls_with_the_order_of_the_scheme(name):
    """Halving the step divides the truncation error by 2^order."""
    scheme, exact = ROWS[name], np.exp(0.3)
    errors = [abs(differentiate(Scalars(0.3), scheme, step).value[0] - exact) for step in (0.08, 0.04)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.1)


@pytest.mark.parametrize("name", ROWS)
def test_stated_error_covers_the_true_one(name):
    points = np.linspace(-3.0, 3.0, 101)
    estimate = differentiate(Scalars(*points), ROWS[name])
    assert (np.abs(estimate.value - np.exp(points)) <= 3 * estimate.error).all()
    scheme = ROWS[name]
    plain = scheme.cancels and not scheme.extrapolate
    tightness = 3.3 * (EPS / scheme.step + scheme.step**scheme.order) if plain else 1e-12
    assert (estimate.error <= tightness * np.exp(np.abs(points)) * 10).all()


@pytest.mark.parametrize("name", ROWS)
def test_the_ladder_falls_and_contains_its_certifying_rungs(name):
    scheme = ROWS[name]
    assert list(scheme.ladder) == sorted(scheme.ladder, reverse=True)
    assert all(0 <= rung < len(scheme.ladder) for rung in scheme.certify)
    assert DEFAULT_SCHEME in SCHEMES
