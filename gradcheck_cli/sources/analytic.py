"""What every gradient source yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Analytic:
    """The analytic gradients to check.

    values: one array per checked parameter, each in its parameter's shape.
    dtypes: for each, the floating-point type it was computed in.
    origin: where they come from, in a few words.
    factors: the chain rule's factors of any layer where the source has them, by name, as output.delta.
    loss: what the author's loss is, where the source says it.
    """

    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]
    origin: str
    factors: Mapping[str, Array] = field(default_factory=dict)
    loss: float | None = None


def dtype_of(array: Array) -> np.dtype[Any]:
    """The array's own type; whole numbers are exact, so they are judged as float64."""
    return array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
