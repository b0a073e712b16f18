"""The function `tap`, which marks an intermediate result of the user's forward pass.

`tap` is cheap enough to stay in production code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Watch(Protocol):
    """An object that sees every tap while it watches."""

    def passed(self, name: str, value: Any, place: str) -> Any:
        """Return the value that the code continues with: the computed value, or a different one."""


_WATCHING: list[Watch] = []


def tap(name: str, value: T) -> T:
    """Mark an intermediate result of the forward pass, so that gradcheck can check its gradient, too.

    Use it as ``h = tap("h", relu(z))``. If your function returns a gradient named ``"h"``, gradcheck
    compares that gradient with differences of the loss with respect to h. If some gradients are wrong,
    gradcheck names the two taps between which the fault lies. Outside a check, `tap` only returns `value`.

    name: the name of the intermediate result; use each name only once in a forward pass.
    value: a numpy, torch or jax array of floats.
    """
    if not _WATCHING:
        return value
    frame = sys._getframe(1)
    place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
    passed: T = _WATCHING[-1].passed(name, value, place)
    return passed


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let `watch` see the taps of all code that runs inside the context."""
    _WATCHING.append(watch)
    try:
        yield
    finally:
        _WATCHING.pop()
