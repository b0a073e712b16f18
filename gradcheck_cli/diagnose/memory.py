"""Results that do not depend on the author's gradients, so that many diagnoses of one network share them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from gradcheck_cli.types import Array

T = TypeVar("T")

_ROOM = 2**26
"""The largest size of all results that are kept, in bytes."""

_OVERHEAD = 64
"""Roughly the size in bytes of a number, and of what a collection needs for each item."""


class Memory(Protocol):
    """Decides whether a result is kept for later diagnoses of the same network."""

    keeps: bool

    def once(self, key: Hashable, compute: Callable[[], T], found: Watched) -> T:
        """Return the result of `compute`, or the kept result for this key.

        found: the author's gradients. A result that depends on them is not kept.
        """

    def of(self, problem: str) -> Memory:
        """Return the memory of a problem that follows from this one, by the name of that problem."""


class Forgetful:
    """Keeps nothing. This is the memory of a single diagnosis."""

    keeps = False

    def once(self, key: Hashable, compute: Callable[[], T], found: Watched) -> T:
        return compute()

    def of(self, problem: str) -> Memory:
        return self


FORGETFUL = Forgetful()


class Lasting:
    """Keeps results while there is room. This is the memory of many diagnoses of one network."""

    keeps = True

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._room = _ROOM
        self._others: dict[str, Lasting] = {}

    def once(self, key: Hashable, compute: Callable[[], T], found: Watched) -> T:
        if key in self._kept:
            kept: T = self._kept[key]
            return kept
        result, is_read = found.watched(compute)
        size = _size(result)
        if not is_read and size <= self._room:
            self._kept[key] = result
            self._room -= size
        return result

    def of(self, problem: str) -> Memory:
        return self._others.setdefault(problem, Lasting())


def _size(result: Any) -> int:
    """Return roughly how many bytes a result needs, its key included."""
    if isinstance(result, np.ndarray):
        return _OVERHEAD + result.nbytes
    parts = result.values() if isinstance(result, Mapping) else result
    return _OVERHEAD + sum(map(_size, parts)) if isinstance(parts, Iterable) else _OVERHEAD


class Watched(Mapping[str, Array]):
    """The author's gradients, by parameter name. It notices whether anything reads them."""

    def __init__(self, found: Mapping[str, Array]) -> None:
        self._found = found
        self._is_read = False

    def watched(self, compute: Callable[[], T]) -> tuple[T, bool]:
        """Return the result of `compute`, and whether `compute` read any of the gradients."""
        before, self._is_read = self._is_read, False
        result, is_read = compute(), self._is_read
        self._is_read = before or is_read
        return result, is_read

    def notice(self) -> None:
        """Take note that a result is used which depends on the gradients."""
        self._is_read = True

    def __getitem__(self, name: str) -> Array:
        self._is_read = True
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        self._is_read = True
        return iter(self._found)

    def __len__(self) -> int:
        self._is_read = True
        return len(self._found)
