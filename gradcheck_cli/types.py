"""The types Array and Shape, and EPS, the machine epsilon of float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

EPS = float(np.finfo(np.float64).eps)
"""The machine epsilon of float64, in which gradcheck computes."""
