"""Where kinks lie behind kinks, a gradient by another convention is undecided. A mistake is still wrong."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import UndecidedGradientError, WrongGradientError, check_gradients


def network(seed, slope, factor=1.0):
    """Return parameters and a function: two layers of relu with this slope at 0, for one sample of zeros."""
    rng = np.random.default_rng(seed)
    shapes = {"w0": (3, 2), "w1": (3, 3), "w2": (2, 3)}
    parameters = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    parameters |= {"b0": np.zeros(3), "b1": np.zeros(3), "b2": np.zeros(2)}
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    x[0] = 0.0

    def loss_and_gradients(p):
        values, sums = [x], []
        for k in range(2):
            sums.append(values[-1] @ p[f"w{k}"].T + p[f"b{k}"])
            values.append(np.maximum(sums[-1], 0.0))
        off = values[-1] @ p["w2"].T + p["b2"] - y
        gradients, delta = {"w2": off.T @ values[-1], "b2": off.sum(0)}, off @ p["w2"]
        for k in (1, 0):
            delta = delta * np.where(sums[k] > 0, 1.0, np.where(sums[k] == 0, slope, 0.0)) * factor
            gradients |= {f"w{k}": delta.T @ values[k], f"b{k}": delta.sum(0)}
            delta = delta @ p[f"w{k}"]
        return 0.5 * (off**2).sum(1), gradients

    return loss_and_gradients, parameters


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [0.3, 0.5, 1.0])
def test_another_slope_at_kinks_behind_kinks_is_not_wrong(seed, slope):
    function, parameters = network(seed, slope)
    with pytest.raises(UndecidedGradientError) as undecided:
        check_gradients(function, parameters)
    assert slope < 1.0 or "jumps at these parameters" in str(undecided.value)


@pytest.mark.parametrize("seed", range(4))
def test_a_slope_of_0_agrees(seed):
    check_gradients(*network(seed, 0.0))


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("factor", [1.01, 0.5, -1.0])
def test_a_mistake_in_the_same_network_is_still_wrong(slope, factor):
    with pytest.raises(WrongGradientError):
        check_gradients(*network(1, slope, factor))
