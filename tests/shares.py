"""Of much that is tried, a share for everybody's first run; the rest is for the gate (`pytest -m slow`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first(count: int, values: Sequence[Any]) -> list[Any]:
    """Values for `parametrize`, of which all behind the first few are slow."""
    return [*values[:count], *(pytest.param(value, marks=pytest.mark.slow) for value in values[count:])]
