"""The types Array and Shape, and the precision of floating-point types, including those that numpy lacks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

EPS = float(np.finfo(np.float64).eps)
"""The machine epsilon of float64, in which gradcheck computes."""


@dataclass(frozen=True)
class Precision:
    """The precision of a floating-point type.

    eps: the machine epsilon.  smallest: the smallest positive number.
    """

    eps: float
    smallest: float


def precision_of(dtype: np.dtype[Any]) -> Precision:
    """Return the precision of a floating-point type of numpy or ml_dtypes, such as bfloat16."""
    info = import_module("ml_dtypes").finfo(dtype) if is_narrow(dtype) else np.finfo(dtype)
    return Precision(float(info.eps), float(info.smallest_subnormal))


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Return whether this is a floating-point type that numpy lacks, such as bfloat16 from ml_dtypes."""
    return dtype.name.startswith(("bfloat", "float8"))
