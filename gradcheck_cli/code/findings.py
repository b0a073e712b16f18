"""The results of running the user's code in other ways than usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Finding:
    """A fact about the gradients of one or more tensors, found by running the code in a different way.

    tensors: the names of the tensors that the fact is about.
    sentence: the fact, as the report states it.
    """

    tensors: tuple[str, ...]
    sentence: str


class Attached(NamedTuple):
    """The gradients of a run in which some calls, such as detach(), have no effect.

    without: the calls that have no effect, in words.
    gradients: the gradients of that run, by name.
    """

    without: str
    gradients: Mapping[str, Array]
