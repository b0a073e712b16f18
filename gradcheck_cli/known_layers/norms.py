"""Guess normalisations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_cli.code.call import Call
from gradcheck_cli.known_layers.sketch import Sketch, as_it_is, begun, in_roles, reshaped
from gradcheck_cli.network.graph import INPUT
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.network.steps.rms_norm import Gain, RootMeanSquare
from gradcheck_cli.types import Shape

_EPS = 1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-7, 1e-10, 1e-9, 1e-4, 1e-2
"""The numbers that people add to a variance."""


class _Norm(NamedTuple):
    """A normalisation, with the step that scales its result.

    told: the normalisation in words.
    """

    told: str
    kind: str
    step: Step
    scale: Step


def normalisation(call: Call) -> Iterator[Sketch]:
    """Yield normalisations, with and without the parameters of their scales, for each plausible eps."""
    for x, *scales in in_roles(call, 1, 2, 3):
        value = call.arrays[x]
        if value.ndim < 2 or value.shape != call.outputs[0].shape:
            continue
        for eps in dict.fromkeys((*(number for number in call.numbers if 0 < number < 1), *_EPS)):
            for norm in _norms(value.shape, eps):
                shapes = dict(zip(scales, norm.scale.shapes.values(), strict=False))
                sizes = [call.arrays[name].size == math.prod(shape) for name, shape in shapes.items()]
                if all(sizes) and len(scales) in (0, len(norm.scale.shapes)):
                    builder = begun(norm.kind, value.shape[1:])
                    normalised = builder.add(norm.step, INPUT)
                    if scales:
                        names = dict(zip(norm.scale.shapes, scales, strict=True))
                        builder.add(norm.scale, normalised, names=names)
                    forms = {x: as_it_is, **{name: reshaped(*shape) for name, shape in shapes.items()}}
                    yield Sketch(f"{norm.told}, eps = {eps:g}", builder, value, forms, {x: INPUT})


def _norms(shape: Shape, eps: float) -> Iterator[_Norm]:
    """Yield each normalisation of an array of this shape."""
    features, rank = shape[1:], len(shape) - 1
    for count in range(1, rank + 1):
        last, over = features[-count:], "the last axis" if count == 1 else f"the last {count} axes"
        scale = Scale(last, names=("weight", "bias"))
        yield _Norm(f"layer_norm over {over}", "layer_norm", Normalise.over_features(eps, count), scale)
        yield _Norm(f"rms_norm over {over}", "rms_norm", RootMeanSquare(eps, count), Gain(last))
    for channel in (0, -1)[:rank]:
        step = Normalise.over_batch(eps, rank, channel)
        yield _Norm("batch_norm", "batch_norm", step, Scale.of_channels(features, channel))
    scale = Scale(features[:1], rank - 1, names=("weight", "bias"))
    for groups in range(1, features[0] + 1):
        if features[0] % groups == 0 and math.prod(features) > groups:
            step = GroupNormalise(eps=eps, groups=groups, positions=rank - 1)
            told = f"group_norm with {groups} group{'s' if groups > 1 else ''}"
            yield _Norm(told, "group_norm", step, scale)
