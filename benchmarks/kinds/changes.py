"""Mistakes that can be made in the gradient of any tensor, regardless of the function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kinds.function import Array, Draw

Change = Callable[[Array], Array]


def _factor(factor: float) -> Callable[[Draw, Array], Change]:
    return lambda rng, g: lambda g: factor * g


def _one(share: float) -> Callable[[Draw, Array], Change]:
    """Change one of the larger entries by this share of its value."""

    def drawn(rng: Draw, g: Array) -> Change:
        large = np.flatnonzero(np.abs(g) >= 0.5 * np.abs(g).max())
        return _at(int(rng.choice(large)), lambda value: value * (1.0 + share))

    return drawn


def _at(entry: int, change: Callable[[float], float]) -> Change:
    def changed(g: Array) -> Array:
        g = g.copy()
        g.flat[entry] = change(g.flat[entry])
        return g

    return changed


def _line(at: int) -> Callable[[Draw, Array], Change]:
    def changed(g: Array) -> Array:
        g = np.atleast_1d(g).copy()
        g[at] = 0.0
        return g

    return lambda rng, g: lambda g: changed(g).reshape(g.shape)


def _swapped(rng: Draw, g: Array) -> Change:
    one, other = (int(k) for k in rng.integers(max(1, g.size), size=2))

    def changed(g: Array) -> Array:
        g = g.copy()
        g.flat[[one, other]] = g.flat[[other, one]]
        return g

    return changed


def _clipped(rng: Draw, g: Array) -> Change:
    most = 0.3 * float(np.abs(g).max())
    return lambda g: np.clip(g, -most, most)


CHANGES: dict[str, Callable[[Draw, Array], Change]] = {
    "sign": _factor(-1.0),
    "doubled": _factor(2.0),
    "halved": _factor(0.5),
    "a thousandth too large": _factor(1.001),
    "left at 0": _factor(0.0),
    "one entry off by 1e-3": _one(1e-3),
    "one entry off by a half": _one(0.5),
    "one entry's sign": _one(-2.0),
    "one entry NaN": lambda rng, g: _at(int(rng.integers(max(1, g.size))), lambda value: np.nan),
    "first row left out": _line(0),
    "last row left out": _line(-1),
    "two entries swapped": _swapped,
    "read in the other order": lambda rng, g: lambda g: g.T.reshape(g.shape),
    "rolled by one": lambda rng, g: lambda g: np.roll(g, 1),
    "backwards": lambda rng, g: lambda g: g.ravel()[::-1].reshape(g.shape),
    "magnitudes": lambda rng, g: np.abs,
    "clipped": _clipped,
    "averaged": lambda rng, g: lambda g: 0.0 * g + g.mean(),
}
"""The mistakes by name, each a function of (draw, right gradient) that returns the wrong gradient."""
