"""Array and Shape: what the whole package calls a numpy array and its shape; EPS, the ε of float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

EPS = float(np.finfo(np.float64).eps)
"""The machine epsilon of float64, in which gradcheck computes."""
