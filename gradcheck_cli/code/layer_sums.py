"""Gradients of a layer that are its upstream gradient, summed over the wrong axes.

If several axes of an output have the same length, the shape of such a gradient does not show the mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.findings import Finding
from gradcheck_cli.types import Array

_SAME = 2.0**7
"""The rounding error allowed in a sum, in units of ε of the sum of its absolute terms."""


def sums_of_upstream(
    gradients: Mapping[str, Array], weights: Sequence[Array], eps: float
) -> Iterator[Finding]:
    """Yield a finding for each gradient that is an upstream summed over axes that other axes could replace.

    The report shows the finding only if the gradient is wrong.

    weights: the upstream c of each output.
    eps: the machine epsilon of the gradients.
    """
    for name, gradient in gradients.items():
        for c in weights:
            ways = list(_ways(c.shape, gradient.shape))
            fitting = [axes for axes in ways if _is_sum(gradient, c, axes, eps)] if len(ways) > 1 else []
            if len(fitting) == 1:
                yield Finding((name,), _sentence(name, fitting[0], ways))


def _ways(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield each set of axes over which an array of this shape can be summed to get the wanted shape."""
    for axes in combinations(range(len(shape)), max(0, len(shape) - len(wanted))):
        if axes and wanted == tuple(n for k, n in enumerate(shape) if k not in axes):
            yield axes


def _is_sum(gradient: Array, c: Array, axes: tuple[int, ...], eps: float) -> bool:
    allowed = _SAME * eps * np.abs(c).sum(axis=axes)
    return bool((np.abs(gradient - c.sum(axis=axes)) <= allowed).all())


def _sentence(name: str, axes: tuple[int, ...], ways: Sequence[tuple[int, ...]]) -> str:
    others = " or ".join(_named(way) for way in ways if way != axes)
    summed = f"The gradient of {name} is the upstream gradient, summed over {_named(axes)}"
    return f"{summed}; the sum over {others} has the same shape, so the shape does not show the mistake"


def _named(axes: tuple[int, ...]) -> str:
    return f"{'axes' if len(axes) > 1 else 'axis'} {listed(map(str, axes))}"
