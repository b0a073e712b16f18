"""The user's gradients from an .npz with one array per parameter name."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.model.arrays import match_shapes, read_npz
from gradcheck_cli.model.problem import Problem
from gradcheck_cli.model.special import Array
from gradcheck_cli.sources.analytic import Analytic
from gradcheck_cli.spec import GradientFile


def read(source: GradientFile, problem: Problem) -> Analytic:
    """The arrays as they are: NaN and inf are a wrong gradient, not a wrong file.

    Raises `InputError` naming every missing, extra and misshapen array. Parameters that are not checked
    may be left out; the output layer's factors, as `output.delta`, may be there for `explain`.
    """
    where = ("gradients", "file")
    arrays = read_npz(source.file, where)
    shapes, factors = problem.network.shapes, _factor_shapes(problem)
    expected = {name: shapes[name] for name in shapes if name in problem.checked or name in arrays}
    expected |= {name: shape for name, shape in factors.items() if name in arrays}
    match_shapes(arrays, expected, "gradient", where, if_missing="--only PATTERN checks fewer parameters")
    arrays = {name: _no_wider_than_float64(array) for name, array in arrays.items()}
    values = {name: arrays[name] for name in problem.checked}
    return Analytic(
        values,
        {name: _dtype(value) for name, value in values.items()},
        source.file.name,
        {name.rsplit(".", 1)[1]: arrays[name] for name in factors if name in arrays},
    )


def _factor_shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    layer, samples = problem.network.output, len(problem.x)
    row = (samples, layer.units)
    return {
        f"{layer.name}.dL_da": row,
        f"{layer.name}.da_dz": (*row, layer.units) if layer.activation.coupled else row,
        f"{layer.name}.delta": row,
        f"{layer.name}.dz_dw": (samples, layer.inputs),
    }


def _no_wider_than_float64(array: Array) -> Array:
    """An extended-precision number that float64 cannot hold becomes inf, and is judged as that."""
    if array.dtype.itemsize <= 8:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def _dtype(array: Array) -> np.dtype[Any]:
    """The array's own type; whole numbers are exact, so they are judged as float64."""
    return array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
