"""Format numbers, shapes and lists as words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def relative(value: float) -> str:
    """Format a relative error, such as ``5.2e-13`` or ``0``; a dash if it is unknown."""
    return "–" if math.isnan(value) else "0" if value == 0 else f"{value:.1e}"


def number(value: float) -> str:
    """Format a gradient's value with ten digits, which is more precise than rtol."""
    return f"{value + 0.0:.10g}"  # −0 is 0


def measured(value: float, error: float) -> str:
    """Format a measured value as ``value ± error``, or as ``unknown``."""
    if math.isinf(error) or math.isnan(value):
        return "unknown"
    return f"{number(value)} ± {error:.0e}" if error else f"{number(value)} ± 0"


def index(of: Sequence[int]) -> str:
    """Format an entry's index, such as ``[3, 27]``; empty for the only entry of a scalar."""
    return f"[{', '.join(map(str, of))}]" if of else ""


def shape(of: Sequence[int]) -> str:
    """Format a shape, such as ``10 × 50``."""
    return " × ".join(map(str, of))


def count(n: int, noun: str) -> str:
    """Format a number with its noun, such as ``1 entry`` or ``1,234 entries``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n:,} {noun if n == 1 else plural}"


def listed(words: Sequence[str]) -> str:
    """Join words in the way of a sentence: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def count_true(mask: NDArray[np.bool_]) -> int:
    """Count the entries that a mask marks."""
    return int(np.count_nonzero(mask))
