"""Select a share of many test values. The values that `first` leaves out run under `pytest -m slow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first(count: int, values: Sequence[Any]) -> list[Any]:
    """Return values for `parametrize`. All but the first few are marked slow."""
    return [*values[:count], *(pytest.param(value, marks=pytest.mark.slow) for value in values[count:])]


def pairs(ones: Sequence[Any], others: Sequence[Any], of_each: int = 3) -> list[tuple[Any, Any]]:
    """Return pairs in which every value has at least `of_each` partners, spread over the other list.

    Use it for two rows that act independently, such as an activation and the loss above it. Testing all pairs
    would test each row dozens of times.
    """
    if len(ones) < len(others):
        return [(one, other) for other, one in pairs(others, ones, of_each)]
    apart = max(1, len(others) // of_each)
    return [
        (one, others[(i + k * apart) % len(others)])
        for i, one in enumerate(ones)
        for k in range(min(of_each, len(others)))
    ]
