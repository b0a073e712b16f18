"""The ranges that the settings of a check may have, both in a spec and on the command line.

This module does not import pydantic, because `--help` loads it and must be fast.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class Range(TypedDict, total=False):
    """An interval of numbers, with the keywords of pydantic's `Field`."""

    ge: float
    gt: float
    le: float
    lt: float


STEP: Range = {"gt": 0, "le": 1.0}
"""The range of the step. With a longer step, a difference would span a whole sigmoid and tell nothing."""

RTOL: Range = {"gt": 0, "lt": 1}
ATOL: Range = {"ge": 0}
JOBS: Range = {"ge": 1, "le": 1024}
MEMORY: Range = {"ge": 1, "le": 2**24}
SEED: Range = {"ge": 0, "lt": 2**32}


Differences = Literal["units", "literal"]
Order = Literal[1, 2]
