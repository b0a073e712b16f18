"""What the settings of a check may be, for the spec and the command line alike.

This module loads no pydantic, since `--help` needs it.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class Range(TypedDict, total=False):
    """An interval of numbers, in the words of pydantic's `Field`."""

    ge: float
    gt: float
    le: float
    lt: float


STEP: Range = {"gt": 0, "le": 1.0}
"""A longer step would cross a whole sigmoid, and its difference would mean nothing."""

RTOL: Range = {"gt": 0, "lt": 1}
JOBS: Range = {"ge": 1, "le": 1024}
MEMORY: Range = {"ge": 1, "le": 2**24}
SEED: Range = {"ge": 0, "lt": 2**32}


Differences = Literal["units", "literal"]
