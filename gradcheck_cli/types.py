"""Array and Shape: what the whole package calls a numpy array and its shape."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
