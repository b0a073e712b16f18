"""One call of a layer's forward function, from which the kind of the layer may be recognised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Call:
    """The arguments and outputs of one call of forward, with the upstream gradient of each output.

    arrays: the arguments whose gradients are checked, as float64 arrays.
    others: the other arguments, such as labels or a dict of options.
    outputs: forward's outputs, as float64 arrays.
    upstreams: the weights c in L = Σ c · out, one array per output.
    """

    arrays: Mapping[str, Array]
    others: Mapping[str, Any]
    outputs: tuple[Array, ...]
    upstreams: tuple[Array, ...]

    @property
    def numbers(self) -> tuple[float, ...]:
        """All numbers among the other arguments, also inside dicts, lists and tuples."""
        return tuple(dict.fromkeys(_numbers(self.others)))

    @property
    def integers(self) -> Mapping[str, Array]:
        """The other arguments that are arrays of integers, such as labels or tokens."""
        arrays = {name: value for name, value in self.others.items() if isinstance(value, np.ndarray)}
        return {name: array for name, array in arrays.items() if array.dtype.kind in "iu"}


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, bool | str):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, list | tuple | type({}.values())):
        for each in value:
            yield from _numbers(each)
