"""Select a share of many test values for every run; the rest runs in the gate (`pytest -m slow`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def first(count: int, values: Sequence[Any]) -> list[Any]:
    """Return values for `parametrize`, with all but the first few marked slow."""
    return [*values[:count], *(pytest.param(value, marks=pytest.mark.slow) for value in values[count:])]
