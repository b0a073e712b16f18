"""Let the memory of freed arrays be used again, instead of asking the system for fresh memory each time."""

from __future__ import annotations

from functools import cache

import numpy as np

_LARGE = 2**25 - 2**16
"""The size in bytes of an array just below the limit up to which glibc adapts, 32 MiB."""


@cache
def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory of freed arrays of up to 32 MiB for the next arrays.

    Temporary arrays of a block otherwise get fresh memory again and again, and every page of fresh memory
    costs more time than the numbers on it. glibc adapts to the largest array that was freed, so one large
    array is enough. No page of it is ever used. Other systems ignore this.
    """
    np.empty(_LARGE, np.uint8)
