"""Find what an autograd.Function saves for backward that double backward sees as a constant.

torch runs `forward` without recording it. So double backward knows how outputs depend on inputs, but not
how an intermediate result does. A second derivative through an intermediate result is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.failures import RefusedError, may_fail

_INSTEAD = (
    "save only inputs and outputs, and compute it again in backward, or return it as a further output "
    "of forward"
)

Saved = dict[type, Mapping[str, None]]
"""Maps each autograd.Function to the names of the intermediate results that it saves."""


def constants_saved(torch: Any, run: Callable[[], object]) -> Iterator[str]:
    """Yield a sentence for each autograd.Function that saves intermediate results.

    run: a function that runs the forward and the backward pass.
    """
    seen: Saved = {}
    with _watching(torch, seen):
        run()
    for function, names in seen.items():
        code = function.forward.__code__  # type: ignore[attr-defined]
        where = f"{function.__name__}.forward ({Path(code.co_filename).name}:{code.co_firstlineno})"
        many = len(names) > 1
        what = (
            f"intermediate results, {listed(names)}" if many else f"an intermediate result, {listed(names)}"
        )
        constants = "constants" if many else "a constant"
        yield f"{where} saves {what}, which double backward sees as {constants}: {_INSTEAD}"


@contextmanager
def _watching(torch: Any, seen: Saved) -> Iterator[None]:
    """Watch the forward of each autograd.Function that takes a context, and note what it saves."""
    functions = [each for each in _below(torch.autograd.Function) if _takes_context(torch, each)]
    originals = {each: vars(each)["forward"] for each in functions}
    try:
        for function, original in originals.items():
            function.forward = staticmethod(_watched(torch, function, original.__func__, seen))  # type: ignore[attr-defined]
        yield
    finally:
        for function, original in originals.items():
            function.forward = original  # type: ignore[attr-defined]


def _below(kind: type) -> Iterator[type]:
    each: type
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _takes_context(torch: Any, function: type) -> bool:
    forward, base = vars(function).get("forward"), torch.autograd.Function
    is_separate = function.setup_context is not base.setup_context  # type: ignore[attr-defined]
    return (
        isinstance(forward, staticmethod) and not is_separate and not function.__module__.startswith("torch")
    )


def _watched(torch: Any, function: type, forward: Callable[..., Any], seen: Saved) -> Callable[..., Any]:
    def watched(ctx: Any, *arguments: Any) -> Any:
        with suppress(RefusedError), may_fail(Exception):  # forward may not run with autograd enabled
            found = _recorded(torch, forward, ctx, arguments)
            if found:
                seen[function] = {**seen.get(function, {}), **dict.fromkeys(found)}
        return forward(ctx, *arguments)

    return watched


class _Context:
    """Stands for the context of an autograd.Function, and keeps what is saved in it."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self._arguments: tuple[object, ...] = ()

    def save_for_backward(self, *tensors: object) -> None:
        self._arguments = tensors

    def saved(self) -> Iterator[tuple[str, object]]:
        for number, value in enumerate(self._arguments, 1):
            yield f"argument {number} of save_for_backward", value
        for name, value in vars(self).items():
            if not name.startswith("_"):
                yield f"ctx.{name}", value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


def _recorded(torch: Any, forward: Callable[..., Any], ctx: Any, arguments: tuple[Any, ...]) -> list[str]:
    """Run forward with autograd enabled on copies. Return the names of what it saves that needs a gradient.

    Inputs and outputs are left out.
    """
    with torch.enable_grad():
        copies = [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]
        context = _Context(ctx)
        result = forward(context, *copies)
    outputs = result if isinstance(result, tuple | list) else [result]
    known = {id(each) for each in (*copies, *outputs)}
    return [
        name
        for name, value in context.saved()
        if isinstance(value, torch.Tensor) and value.requires_grad and id(value) not in known
    ]
