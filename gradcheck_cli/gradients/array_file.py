"""Read the user's gradients from a file with one array per parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from gradcheck_cli.arrays.named_arrays import read_fitting
from gradcheck_cli.gradients.analytic import Analytic, dtype_of
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.shifted import INPUTS, values_of
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.spec.gradients import GradientFile
from gradcheck_cli.types import Array, is_narrow


def read(source: GradientFile, problem: Problem) -> Analytic:
    """Read the gradients from the file. NaN or inf makes a gradient wrong, but the file stays valid.

    The gradients of parameters that are not checked may be missing. The file may also hold ∂L/∂x, under the
    name `input`, and factors of the chain rule, such as `output.delta`. A factor is checked if it is the
    gradient of a value in the network's graph. An array named `loss` is compared with the network's loss.

    Raises an `InputError` that lists every missing, extra or misshapen array.
    """
    factors = factor_shapes(problem)
    known = {**problem.network.shapes, INPUTS: problem.x.shape, **factors}
    shapes = {**known, **({} if LOSS in source.names else {LOSS: ()})}
    help = "map the file's names to parameters under 'names', or check fewer parameters with --only PATTERN"
    needed = (*problem.checked, *problem.checked_values)
    arrays = read_fitting(source, "gradients", "gradient", shapes, needed, help)
    narrow = {name: dtype_of(array) for name, array in arrays.items() if is_narrow(array.dtype)}
    arrays = {name: _as_numpy_has_it(array) for name, array in arrays.items()}
    values = {name: arrays[name] for name in (*needed, *_given_values(problem, arrays))}
    return Analytic(
        values,
        {name: narrow.get(name, dtype_of(value)) for name, value in values.items()},
        source.file.name or str(source.file),
        {name: arrays[name] for name in factors if name in arrays},
        float(arrays[LOSS]) if LOSS in arrays else None,
    )


def _given_values(problem: Problem, arrays: Mapping[str, Array]) -> Iterator[str]:
    """Yield the name of each value of the graph whose gradient is in the file and selected by the check."""
    network, samples = problem.network, len(problem.x)
    for name, at in values_of(network).items():
        selected = name not in problem.checked_values and problem.selects(name)
        if selected and name in arrays and arrays[name].shape == (samples, *network.graph.value_features[at]):
            yield name


LOSS = "loss"
"""The name of the array in a gradient file that holds the author's loss, as in `gradcheck dump`."""


def factor_shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """Return the shape of every factor of the chain rule that a file may hold, by its name in the file."""
    return {
        f"{layer.name}.{factor}": shape
        for layer in problem.network.layers
        for factor, shape in _factors_of(layer, len(problem.x)).items()
    }


def _factors_of(layer: Layer, samples: int) -> dict[str, tuple[int, ...]]:
    row = (samples, layer.units)
    return {
        "dL_da": row,
        "da_dz": (*row, layer.units) if layer.activation.coupled else row,
        **({} if layer.batch_norm is None else {"dL_dy": row}),
        "delta": row,
        "dz_dw": (samples, layer.inputs),
    }


def _as_numpy_has_it(array: Array) -> Array:
    """Convert extended precision to float64, where large entries become inf, and bfloat16 to float32."""
    if is_narrow(array.dtype):
        return array.astype(np.float32)
    if array.dtype.itemsize <= 8:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float64)
