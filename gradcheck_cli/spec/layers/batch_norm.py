"""Batch normalisation, as an option of layers with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps.fixed_norm import FixedNormalise
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.spec.layers.fixed import Fixed, FixedArray, Key, given
from gradcheck_cli.spec.model import Model, Positive
from gradcheck_cli.types import Array

KEY = "batch_norm"


class BatchNormSpec(Model):
    """Batch normalisation, (z − mean) / √(variance + eps), with PyTorch's defaults.

    eps: The number added to the variance to avoid a division by 0.
    unbiased: Whether the variance of N values divides by N − 1 instead of N.
    running_mean: A fixed mean for each unit, as in PyTorch's eval mode. By default, the mean of the batch.
    running_var: A fixed variance for each unit. By default, the variance of the batch.
    """

    eps: Positive = 1e-5
    unbiased: bool = False
    running_mean: FixedArray | None = None
    running_var: FixedArray | None = None

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        """The running statistics, by key in the layer."""
        arrays = given(running_mean=self.running_mean, running_var=self.running_var)
        return {(KEY, *key): array for key, array in arrays.items()}

    def steps(self, builder: Builder, layer: Layer) -> Iterator[Step]:
        """Yield the steps of a layer that has this batch normalisation."""
        layer = replace(layer, batch_norm=self.eps, unbiased=self.unbiased)
        fixed = self._fixed(builder, layer) if self.fixed else None
        for step in layer.own_steps:
            yield fixed if fixed and isinstance(step, Normalise) else step

    def _fixed(self, builder: Builder, layer: Layer) -> FixedNormalise:
        mean, variance = (_of_units(builder, key, layer.units) for key in ("running_mean", "running_var"))
        if (variance < 0).any():
            raise UnfitError("running_var holds negative numbers", KEY)
        positions = len(layer.out) - 1 if layer.step.channel == 0 else 0
        return FixedNormalise(mean, variance, self.eps, positions)


def _of_units(builder: Builder, key: str, units: int) -> Array:
    array = builder.array(KEY, key)
    if array is None:
        raise UnfitError(f"{key} is missing", KEY, "give both running_mean and running_var, or neither")
    if array.shape != (units,):
        raise UnfitError(f"{key} has shape {list(array.shape)}; [{units}] is needed", KEY)
    return np.asarray(array)
