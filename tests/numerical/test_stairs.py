"""A loss is a staircase if it is flat nearly everywhere and jumps in between, and not if it is flat here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from gradcheck_cli.numerical.objective import ALONE, Moved
from gradcheck_cli.numerical.stairs import is_flat, is_staircase

HERE = 0.4


@dataclass(frozen=True)
class Number:
    """One number, and a loss that depends on it."""

    loss: Callable[[np.ndarray], np.ndarray]
    position = np.array([HERE])
    unit = np.array([1.0])
    batch, spread, rest, exact = 64, ALONE, None, True

    def move(self, which: np.ndarray, to: np.ndarray) -> Moved:
        assert (which == 0).all()
        losses = 1.0 + self.loss(to)
        return Moved(losses, np.abs(losses), np.zeros(len(to), dtype=bool))


STAIRS = {
    "round": np.round,
    "floor": lambda t: np.floor(8 * t) ** 2,
    "two heights": lambda t: np.where(t > 0, 1.0, 0.0),
    "narrow stairs": lambda t: np.round(100 * t) / 100,
    "rounded and clipped": lambda t: np.clip(np.round(4 * t), -2, 2),
    "int8": lambda t: (np.clip(np.round(t / 0.03), -128, 127) * 0.03 - 0.2) ** 2,
}
NO_STAIRS = {
    "smooth": np.tanh,
    "constant": np.zeros_like,
    "flat up to a kink": lambda t: np.maximum(0.0, t - 1.0),
    "flat at two heights": lambda t: np.clip(t, 0.5, 1.0),
    "steep between two heights": lambda t: np.clip(1e5 * (t - 1.0), 0.0, 1.0),
    "steep and smooth": lambda t: 1.0 / (1.0 + np.exp(-np.clip(300.0 * (t - 1.0), -700.0, 700.0))),
    "a jump between slopes": lambda t: np.where(t > 1.0, 5.0 + t, t),
    "sawtooth": lambda t: t - np.floor(t),
    "float32": lambda t: np.tanh(t.astype(np.float32)).astype(float),
    "not defined": lambda t: np.where(t > 1.0, np.nan, 0.0),
}


@pytest.mark.parametrize("name", STAIRS)
def test_stairs_are_found(name):
    assert is_flat(Number(STAIRS[name]), np.array([0])).tolist() == [True]
    assert is_staircase(Number(STAIRS[name]), 0)


@pytest.mark.parametrize("name", NO_STAIRS)
def test_anything_else_is_no_staircase(name):
    assert not is_staircase(Number(NO_STAIRS[name]), 0)


def test_a_slope_is_not_flat():
    assert is_flat(Number(np.tanh), np.array([0])).tolist() == [False]
