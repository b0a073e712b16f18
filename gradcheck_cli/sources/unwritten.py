"""Memory that code asks for and never writes: it holds whatever was there before.

That may be the same in two calls by accident. So the code is run with everything that numpy.empty and
torch.empty return filled with one number, and then with another: a result that depends on the number depends
on memory that was never written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.model.arrays import listed
from gradcheck_cli.model.special import Array
from gradcheck_cli.sources.evaluation import Evaluation, differing, same
from gradcheck_cli.sources.torch_modes import operator_mode
from gradcheck_cli.sources.user_code import Callee

_NUMBERS = (1234.5, -567.75)
"""Finite, even in float16, and unlikely to be right."""

_MOST = 2**24
"""What is larger is left as it is: it may be meant to be used in part."""

_OF_TORCH = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")

_ERRATIC = 1e-3
"""The share of a tensor's largest entry by which a gradient changes that is called erratic."""

_ERRATIC_HELP = "does it read memory that was never written, or keep something from one call to the next?"

_HELP = "numpy.empty and torch.empty hold whatever was there before: write all of it, or begin with zeros"


def refuse_unwritten(
    first: Evaluation, second: Evaluation, observe: Callable[[], Evaluation], code: Callee
) -> None:
    """Raise `InputError` if losses or gradients depend on memory that the code never wrote.

    first, second: two calls as they come. Code that differs between these for another reason differs here,
    too, and is left for `refuse_unrepeatable`.
    """
    try:
        one, other = _run(observe, _NUMBERS[0]), _run(observe, _NUMBERS[1])
        names = differing(one, other)
        if names and differing(first, second) and differing(one, _run(observe, _NUMBERS[0])):
            return
    except InputError:  # code that fails on such numbers, or cannot be run in this way
        return
    if names:
        changes = "changes" if len(names) == 1 else "change"
        unwritten = f"{code} uses memory that it never wrote"
        raise bad_input(f"{listed(names)} {changes} from call to call: {unwritten}", *code.where, help=_HELP)


def refuse_erratic(first: Mapping[str, Array], again: Mapping[str, Array], origin: str) -> None:
    """Raise `InputError` if gradients at the same point are others after the code has run at other points."""
    names = [name for name, gradient in first.items() if not same(gradient, again[name], _ERRATIC)]
    if names:
        message = f"the gradient of {listed(names)} changes from call to call"
        depends = f"after other calls, {origin} gives another at the same parameters"
        raise bad_input(f"{message}: {depends}", "gradients", help=_ERRATIC_HELP)


def _run(observe: Callable[[], Evaluation], number: float) -> Evaluation:
    with _filled(number):
        return observe()


@contextmanager
def _filled(number: float) -> Iterator[None]:
    """Let all fresh memory of floating-point numbers hold this one."""
    with _filled_by_torch(number), _filled_by_numpy(number):
        yield


@contextmanager
def _filled_by_numpy(number: float) -> Iterator[None]:
    """In the place of numpy's two functions, wherever a module has them under their own names."""
    originals = {"empty": np.empty, "empty_like": np.empty_like}
    places = [
        (module, name)
        for module in list(sys.modules.values())
        if not getattr(module, "__name__", "").startswith("numpy.")
        for name, original in originals.items()
        if getattr(module, "__dict__", {}).get(name) is original
    ]
    try:
        for module, name in places:
            setattr(module, name, _filling(originals[name], number))
        yield
    finally:
        for module, name in places:
            setattr(module, name, originals[name])


def _filling(original: Any, number: float) -> Callable[..., Any]:
    def filled(*args: Any, **options: Any) -> Any:
        array = original(*args, **options)
        if isinstance(array, np.ndarray) and array.dtype.kind in "fc" and array.size <= _MOST:
            array.fill(number)
        return array

    return filled


def _filled_by_torch(number: float) -> Any:
    """What torch allocates for others; where torch was never imported, nothing does."""
    if "torch" not in sys.modules:
        return nullcontext()

    def dispatch(mode: Any, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        tensor = function(*args, **(options or {}))
        if function.overloadpacket.__name__ in _OF_TORCH and _is_floating(tensor):
            tensor.fill_(number)
        return tensor

    return type("Filled", (operator_mode(),), {"__torch_dispatch__": dispatch})()


def _is_floating(tensor: Any) -> bool:
    floating = tensor.is_floating_point() or tensor.is_complex()
    return bool(floating and tensor.numel() <= _MOST and "strided" in str(tensor.layout))
