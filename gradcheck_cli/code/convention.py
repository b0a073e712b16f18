"""The convention that a forward and a backward function follow: what they return and what they take."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import described, plain
from gradcheck_cli.code.signature import positional, takes_by_name

_UPSTREAM = re.compile(r"d\w*|grad\w*|g|g[a-z]|g_\w+|up\w*|ct\w*|cot\w*")
"""The names that people give to an upstream gradient, such as dout, dL_dy, grad_h or gy."""

_CACHE = re.compile(r"cache|ctx|context|saved|mask|residual|state|memory", re.IGNORECASE)
"""The names that people give to the values that forward keeps for backward."""


@dataclass(frozen=True)
class Convention:
    """The convention that forward and backward follow.

    Backward's first arguments are always the upstream gradients, one for each output.

    outputs: the number of forward's outputs.
    results: the number of values that forward returns, including the cache.
    takes_cache: whether backward takes the values that forward returns after its outputs.
    inputs: the names of forward's arguments that backward takes after the upstream gradients.
    """

    outputs: int
    results: int
    takes_cache: bool
    inputs: tuple[str, ...]


def as_results(result: Any) -> Sequence[Any]:
    """Return the values that forward returned, as a sequence even if there is only one."""
    return result if isinstance(result, tuple | list) else (result,)


def convention_of(
    forward: Callee, backward: Callee, result: Any, arguments: Mapping[str, Any], outputs: int | None
) -> Convention:
    """Return the convention that forward and backward follow.

    Backward takes one upstream for each output. After these, it takes forward's cache, some of forward's
    arguments, or nothing.

    result: the result of a call of forward.
    outputs: the number of forward's outputs; None to infer it.
    Raises `InputError` if the two functions do not fit together.
    """
    if result is None:
        raise forward.complain("returns None", "return out, or (out, cache)")
    results = as_results(result)
    if outputs is not None and (not isinstance(outputs, int) or not 1 <= outputs <= len(results)):
        raise forward.complain(f"returns {_count(len(results))}, but 'outputs' is {outputs!r}")
    names = _taken(backward, len(results), arguments)
    fits = list(_fits(names, len(results), arguments, outputs))
    if len(fits) > 1 and names is not None:
        count = _outputs(backward, names, results, arguments)
        fits = [fit for fit in fits if fit.outputs == count]
    if not fits or not _is_callable(backward, fits[0]):
        raise _misfit(forward, backward, names, len(results))
    _refuse_unusable(forward, results[: fits[0].outputs])
    return fits[0]


def _taken(backward: Callee, results: int, arguments: Collection[str]) -> tuple[str, ...] | None:
    """Return the names of the parameters that backward is called with; None if they are unknown.

    A parameter with a default is left out, unless it can be part of the cache or is an argument of forward.
    """
    found = positional(backward.value)
    if found is None:
        return None
    names, needed = found
    first = max(needed, min(results, len(names)))
    return (*names[:first], *(name for name in names[first:] if name in arguments))


def _fits(
    names: tuple[str, ...] | None, results: int, arguments: Collection[str], outputs: int | None
) -> Iterator[Convention]:
    """Yield every convention under which these parameters of backward fit forward's results."""
    if names is None:
        count = outputs or max(1, results - 1)
        yield Convention(count, results, count < results, ())
        return
    for count in range(1, min(results, len(names)) + 1) if outputs is None else (outputs,):
        rest, left = names[count:], results - count
        if len(names) < count:
            continue
        if len(rest) == left:
            yield Convention(count, results, bool(left), ())
        elif rest and set(rest) <= set(arguments):
            yield Convention(count, results, False, rest)
        elif not rest and (count == 1 or outputs):
            yield Convention(count, results, False, ())
        elif not left and len(rest) == len(arguments):
            yield Convention(count, results, False, tuple(arguments))


def _outputs(
    backward: Callee, names: Sequence[str], results: Sequence[Any], arguments: Collection[str]
) -> int:
    """Return the number of forward's outputs, judging by the names of backward's parameters.

    Raises `InputError` if the names do not show this number.
    """
    for i, name in enumerate(names[1 : len(results)], 1):
        if name in arguments or _CACHE.search(name) or not _may_be_output(results[i]):
            return i
        is_last = i + 1 == len(names) == len(results)
        if _UPSTREAM.fullmatch(name) is None and is_last:
            return i
        if _UPSTREAM.fullmatch(name) is None or is_last:
            message = f"takes {name}, which may be either an upstream gradient or part of the cache"
            raise backward.complain(
                message, f"set 'outputs' to the number of forward's outputs: {i} or {i + 1}"
            )
    return min(len(names), len(results))


def _is_callable(backward: Callee, how: Convention) -> bool:
    """Return whether backward can be called with these upstreams, followed by the cache or the inputs."""
    if how.inputs:
        return True
    count = how.results if how.takes_cache else how.outputs
    return takes_by_name(backward.value, count, {}) or positional(backward.value) is None


def _misfit(forward: Callee, backward: Callee, names: Sequence[str] | None, results: int) -> Exception:
    takes = f"backward takes {listed(names)}" if names else "backward takes nothing"
    help = (
        "forward must return out or (out, cache); backward must take (dout, cache), or dout followed by "
        "arguments named as in forward"
    )
    return backward.complain(f"does not fit {forward}: forward returns {_count(results)}, and {takes}", help)


def _count(results: int) -> str:
    return f"{results} result{'s' if results != 1 else ''}"


def _refuse_unusable(forward: Callee, outputs: Sequence[Any]) -> None:
    """Raise `InputError` unless all outputs are floats or arrays of floats."""
    for each in outputs:
        if not _is_float_array(each):
            help = "return several outputs as a tuple" if isinstance(each, Mapping) else None
            found = described(each)
            raise forward.complain(f"returns {found} as an output; an array of floats is needed", help)


def _is_float_array(value: Any) -> bool:
    return plain(value).dtype.kind == "f"


def _may_be_output(value: Any) -> bool:
    return (isinstance(value, float) or hasattr(value, "dtype")) and _is_float_array(value)
