"""Detect results that depend on memory that the code allocates but never writes to.

Such memory holds whatever was there before, and two calls may find the same content by accident. So every
array from numpy.empty and every tensor from torch.empty is filled with one number, and with a different
number in another run. If a result depends on that number, it depends on memory that was never written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import differing, same
from gradcheck_cli.code.torch_modes import operator_mode
from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.types import Array

_NUMBERS = (1234.5, -567.75)
"""The two numbers with which allocated memory is filled.

They are finite in float16 and unlikely to be the right content by accident.
"""

_AGAIN = 3
"""The number of times that a run with each number is repeated before memory is blamed."""

_MOST = 2**24
"""The size of the largest array to fill. Filling a larger one, often used only in part, costs memory."""

_OF_TORCH = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")

_ERRATIC = 1e-3
"""A gradient is erratic if it changes between two calls by more than this fraction of its largest entry."""

_ERRATIC_HELP = "does the code read memory that it never wrote, or keep state between calls?"

_HELP = "numpy.empty and torch.empty return arbitrary numbers: write every entry, or start from zeros"


def refuse_unwritten(observe: Callable[[], Evaluation], code: Callee) -> None:
    """Raise `InputError` if losses or gradients depend on memory that the code never wrote.

    If the results of two calls differ for another reason, this function raises nothing, since
    `refuse_other_losses` or `refuse_other_gradients` reports the difference.

    observe: a function that calls the code once more and returns its results.
    """
    try:
        one, other = _run(observe, _NUMBERS[0]), _run(observe, _NUMBERS[1])
        names = differing(one, other)
        if names and not _are_repeatable(observe, one, other):
            return
    except InputError:  # the code fails on such numbers, or with the functions replaced
        return
    if names:
        changes = "changes" if len(names) == 1 else "change"
        unwritten = f"{code} uses memory that it never wrote"
        raise bad_input(f"{listed(names)} {changes} from call to call: {unwritten}", *code.where, help=_HELP)


def _are_repeatable(observe: Callable[[], Evaluation], one: Evaluation, other: Evaluation) -> bool:
    """Return whether the results for both numbers come out the same again, unlike those of a race."""
    runs = ((one, _NUMBERS[0]), (other, _NUMBERS[1]))
    return not any(differing(found, _run(observe, number)) for found, number in _AGAIN * runs)


def refuse_erratic(first: Mapping[str, Array], again: Mapping[str, Array], origin: str) -> None:
    """Raise `InputError` if gradients at the same point change after the code has run at other points.

    first: the gradients before these runs, by name.
    again: the gradients after these runs, by name.
    origin: a description of the code.
    """
    names = [name for name, gradient in first.items() if not same(gradient, again[name], _ERRATIC)]
    if names:
        message = f"the gradient of {listed(names)} changes from call to call"
        depends = f"after other calls, {origin} returns a different gradient at the same parameters"
        raise bad_input(f"{message}: {depends}", "gradients", help=_ERRATIC_HELP)


def _run(observe: Callable[[], Evaluation], number: float) -> Evaluation:
    with _filled(number):
        return observe()


@contextmanager
def _filled(number: float) -> Iterator[None]:
    """Fill with `number` every floating-point array and tensor that the code allocates inside the context."""
    with _filled_by_torch(number), _filled_by_numpy(number):
        yield


@contextmanager
def _filled_by_numpy(number: float) -> Iterator[None]:
    """Replace numpy.empty and numpy.empty_like by functions that fill the array they return with `number`.

    Every module that has imported the two functions under their own names gets the replacements.
    """
    originals = {"empty": np.empty, "empty_like": np.empty_like}
    places = [
        (module, name)
        for module in list(sys.modules.values())
        for name, original in originals.items()
        if getattr(module, "__dict__", {}).get(name) is original
        and not getattr(module, "__name__", "").startswith("numpy.")
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
    """Return a context in which all tensors that torch allocates are filled with `number`.

    The context does nothing if torch has not been imported.
    """
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
