"""Guess losses: forward returns a single number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.ending import Scalar
from gradcheck_cli.known_layers.sketch import Sketch, as_it_is, begun, in_roles
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.losses import Reduction
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array

_OF_LABELS = "cross_entropy", "hinge", "nll"
_OF_VALUES = "mse", "l1", "huber", "bce_with_logits", "cross_entropy"


def loss(call: Call) -> Iterator[Sketch]:
    """Yield losses of x and the labels or values among the other arguments."""
    for (name,) in in_roles(call, 1) if call.outputs[0].size == 1 else ():
        x = call.arrays[name]
        for kind, target in _targets(call, x) if x.ndim > 1 else ():
            for reduction, factor in _factors(x).items():
                builder = begun(kind, x.shape[1:])
                builder.add(Pointwise(ACTIVATIONS["identity"].with_options()), INPUT)
                ending = Scalar(kind, target, reduction, factor)
                told = f"the loss {kind}, with the reduction {reduction}"
                yield Sketch(told, builder, x, {name: as_it_is}, {name: INPUT}, ending)


def _targets(call: Call, x: Array) -> Iterator[tuple[str, Array]]:
    for labels in call.integers.values():
        fit = labels.shape == x.shape[:-1] and labels.size
        if fit and labels.min() >= 0 and labels.max() < x.shape[-1]:
            yield from ((kind, np.eye(x.shape[-1])[labels]) for kind in _OF_LABELS)
    for value in call.others.values():
        if isinstance(value, np.ndarray) and value.shape == x.shape and value.dtype.kind in "fiub":
            yield from ((kind, value.astype(np.float64)) for kind in _OF_VALUES)


def _factors(x: Array) -> Mapping[Reduction, float]:
    rows = x.size / x.shape[-1]
    return {"batchmean": 1.0 / rows, "mean": 1.0 / x.size, "sum": 1.0}
