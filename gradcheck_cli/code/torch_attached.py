"""Run a torch module in such a way that detach() and no_grad() have no effect."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Attached
from gradcheck_cli.code.load import Callee
from gradcheck_cli.types import Array

_MOST_ALONE = 8
"""The largest number of calls that are made ineffective one at a time."""

_OURS = str(Path(__file__).parents[1])


class Place(NamedTuple):
    """A line of the user's code that detaches a tensor."""

    call: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.call} in {Path(self.file).name}:{self.line}"


def attached(torch: Any, code: Callee, run: Callable[[], Mapping[str, Array]]) -> Iterator[Attached]:
    """Yield the gradients of runs without single calls that detach a tensor, then without all such calls.

    run: a function that runs the module's forward and backward pass, and returns the gradients.
    """
    seen: dict[Place, None] = {}
    whole = _run_without(torch, code, run, seen, None)
    if whole is None or not seen:
        return
    for place in seen if 1 < len(seen) <= _MOST_ALONE else ():
        alone = _run_without(torch, code, run, {}, (place,))
        if alone is not None:
            yield Attached(str(place), alone)
    yield Attached(listed(list(map(str, seen))), whole)


def _run_without(
    torch: Any,
    code: Callee,
    run: Callable[[], Mapping[str, Array]],
    seen: dict[Place, None],
    only: Collection[Place] | None,
) -> Mapping[str, Array] | None:
    """Return the gradients of a run in which the calls in `only` have no effect.

    Returns None if the code fails.

    seen: a dict that receives the calls that had no effect.
    only: the calls; None for all calls that detach a tensor.
    """
    with (
        suppress(RefusedError),  # code may change a tensor in place after detaching it
        may_fail(),
        code.running("with nothing detached"),
        _mode(torch, seen, only),
    ):
        return run()
    return None


def _mode(torch: Any, seen: dict[Place, None], only: Collection[Place] | None) -> Any:
    """Return a context in which the calls in `only` return their argument instead of detaching it."""
    calls = {
        torch.Tensor.detach: "detach()",
        torch.Tensor.detach_: "detach_()",
        torch.detach: "detach()",
        torch.Tensor.data.__get__: ".data",
        torch._C._set_grad_enabled: "no_grad()",
    }

    def dispatch(mode: Any, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        call = calls.get(function)
        if call is None or args[0] is True:
            return function(*args, **(options or {}))
        place = _place_of(call, sys._getframe(1))
        if place is None or (only is not None and place not in only):
            return function(*args, **(options or {}))
        seen[place] = None
        return args[0]

    base = import_module("torch.overrides").TorchFunctionMode
    return type("Attached", (base,), {"__torch_function__": dispatch})()


def _place_of(call: str, frame: FrameType | None) -> Place | None:
    """Return the line of the user's code that makes a call; None if gradcheck makes it."""
    of_torch = str(Path(import_module("torch").__file__ or "").parent)
    while frame is not None and frame.f_code.co_filename.startswith(of_torch):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_OURS):
        return None
    return Place(call, frame.f_code.co_filename, frame.f_lineno)
