"""Read the loss and the gradients that the user's code returns, and compare the results of two calls."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from gradcheck_cli.arrays.shapes import match_shapes
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.load import Callee, UserCode, a
from gradcheck_cli.errors import Complaint, InputError, Location, bad_input
from gradcheck_cli.types import Array, is_narrow

# --- what goes in ----------------------------------------------------------------------------------------


def samples(inputs: Inputs, code: UserCode) -> tuple[Array | None, Array | None]:
    """Return x and y from the spec or, if the spec has no data, from `data` in the code's module.

    Returns (None, None) if neither the spec nor the module has data.
    """
    if inputs.x is not None or inputs.y is not None:
        return inputs.x, inputs.y
    return own_data(code)


def own_data(code: UserCode) -> tuple[Array | None, Array | None]:
    """Return x and y from `data` in the code's module; (None, None) if the module defines no `data`."""
    data = code.own("data")
    if data is None:
        return None, None
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise _of(code, "'data'", f"is {a(data)}; a pair (x, y) is needed")
    with code.running("reading its data"):
        x, y = (None if value is None else own_array(value, code, "'data'", "buifc") for value in data)
    return x, y


def as_point(arrays: Mapping[str, Array], where: Location) -> dict[str, Array]:
    """Return copies of the parameters in float64.

    Raises an `InputError` that points at `where` if any entry is not finite.
    """
    point = {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}
    complaints = [
        Complaint(f"parameter '{name}' holds numbers that are not finite", where)
        for name, array in point.items()
        if not np.isfinite(array).all()
    ]
    if complaints:
        raise InputError(*complaints)
    return point


def own_array(value: Any, code: UserCode, what: str, kinds: str = "buif") -> Array:
    """Convert a value that the user's module defines to an array.

    Raises `InputError` if the array has a dtype of another kind.

    what: the name of the value in messages.
    kinds: the allowed kinds of dtype, as numpy's one-letter codes.
    """
    array = plain(value)
    if array.dtype.kind not in kinds:
        raise _of(code, what, f"has dtype {array.dtype}; real numbers are needed", in_two_parts(array))
    return array


def in_two_parts(array: Array) -> str | None:
    """Return a hint to split a complex array into two real ones; None for an array that is not complex."""
    return "give its real and its imaginary part as two arrays" if array.dtype.kind == "c" else None


def _of(code: UserCode, what: str, message: str, help: str | None = None) -> InputError:
    return InputError(Complaint(f"{what} in {code.code.file.name} {message}", code.where, help))


def taking_data(function: Callable[..., Any], x: Any, y: Any) -> Callable[..., Any]:
    """Return a function of (parameters, x, y) that calls the user's function.

    A function that takes fewer arguments is called without y if there is none, or without x and y if there
    are no data.
    """
    if y is not None or takes(function, {}, x, y):
        return function
    if x is not None and takes(function, {}, x):
        return lambda parameters, x, y: function(parameters, x)
    if x is None and takes(function, {}):
        return lambda parameters, x, y: function(parameters)
    return function


def takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Return whether the function can be called with these arguments; True if its signature is unknown."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # the function has no signature to inspect
        return True
    return True


# --- what comes out --------------------------------------------------------------------------------------


def plain(value: Any) -> Array:
    """Convert a number or an array from numpy, torch, jax or plain Python to a numpy array.

    The result shares memory with the original if possible. A value that numpy cannot convert, such as nested
    lists of unequal lengths, becomes an array of type object.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        value = value.float() if str(value.dtype).startswith(("torch.bfloat", "torch.float8")) else value
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of unequal lengths
        array = np.empty((), dtype=object)
    return array.astype(np.float32) if is_narrow(array.dtype) else array


def type_of(value: Any) -> np.dtype[Any]:
    """Return the floating-point type of an array of numpy, ml_dtypes, torch or jax, as numpy knows it.

    Plain numbers and integers count as float64. Raises `InputError` if the type needs ml_dtypes, which is
    not installed.
    """
    return type_named(str(getattr(value, "dtype", "float64")))


def type_named(name: str) -> np.dtype[Any]:
    """Return the floating-point type with this name in numpy, ml_dtypes or torch, as `type_of` does."""
    name = name.removeprefix("torch.")
    if name.startswith(("bfloat", "float8")):
        return _of_ml_dtypes(name)
    return np.dtype(name) if name in ("float16", "float32") else np.dtype(np.float64)


def _of_ml_dtypes(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(getattr(import_module("ml_dtypes"), name))
    except ImportError:
        raise bad_input(
            f"arrays of {name} need the package ml_dtypes", help="pip install ml_dtypes"
        ) from None


def described(value: Any) -> str:
    """Return a phrase for a value in a message, such as ``a dict`` or ``numbers of type int64``."""
    dtype = getattr(value, "dtype", None)
    return a(value) if dtype is None or str(dtype) == "object" else f"numbers of type {dtype}"


def real(array: Array) -> Array:
    """Return a copy of the array in float16, float32 or float64; integers and wider floats become float64."""
    floating = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    with np.errstate(over="ignore"):
        return np.array(array, dtype=array.dtype.newbyteorder("=") if floating else np.float64)


def read_losses(value: Any, code: Callee) -> Array:
    """Convert the loss that the code returned to an array of S terms, (S,), which add up to L.

    Raises `InputError` if the loss is neither a real number nor a one-dimensional array of real numbers.
    """
    losses = plain(value)
    if losses.dtype.kind not in "buif" or (losses.ndim > 1 and losses.size > 1) or not losses.size:
        found = a(value) if losses.dtype.kind not in "buif" else f"an array of shape {list(losses.shape)}"
        raise code.complain(f"returns {found} as its loss; a number or one term per sample is needed")
    return real(losses.reshape(-1))


def read_gradients(values: Any, shapes: Mapping[str, tuple[int, ...]], code: Callee) -> dict[str, Array]:
    """Convert the returned gradients to arrays by name, without a copy if possible.

    Raises an `InputError` that lists every gradient that is missing, misshapen or not real.

    shapes: the shape of every parameter.
    """
    if not isinstance(values, Mapping):
        message = f"returns {a(values)} as its gradients; a dict of arrays by parameter name is needed"
        raise code.complain(message)
    arrays = {str(name): plain(value) for name, value in values.items()}
    complaints = [
        Complaint(
            f"{code} returns {_found(values[name], arrays[name])} for the gradient of '{name}'",
            code.where,
            in_two_parts(arrays[name]),
        )
        for name in shapes
        if name in arrays and arrays[name].dtype.kind not in "buif"
    ]
    if complaints:
        raise InputError(*complaints)
    match_shapes(arrays, shapes, "gradient", code.where)
    return {name: arrays[name] for name in shapes}


def first_of_two(value: Any, what: str, code: Callee) -> Array:
    """Return the first point's result from the result of a vectorized function for a stack of two points.

    what: a name of the result for messages, such as "a loss".
    """
    array = plain(value)
    if array.ndim == 0 or len(array) != 2:
        found = f"returns {what} of shape {list(array.shape)} for a stack of 2 points"
        raise code.complain(f"{found}; its first axis must run over the points of the stack", _VECTORIZED)
    return array[0]


def read_stack(value: Any, shape: tuple[int, int], code: Callee) -> Array:
    """Convert the losses that a vectorized function returned for K points to a float64 array, (K, S).

    shape: (K, S), for K points and S loss terms per point.
    """
    losses = plain(value)
    if losses.dtype.kind not in "buif" or losses.shape not in _fitting(shape):
        found = f"returns a loss of shape {list(losses.shape)} for a stack of {shape[0]} points"
        raise code.complain(f"{found}; {list(shape)} is needed", _VECTORIZED)
    return losses.astype(np.float64).reshape(shape)


def _fitting(shape: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    return (shape, shape[:1]) if shape[1] == 1 else (shape,)


_VECTORIZED = (
    "a vectorized function takes parameters with a first axis of K points, and returns losses and gradients "
    "with that axis; if this one does not, leave `vectorized` out"
)


def _found(value: Any, array: Array) -> str:
    return f"numbers of type {array.dtype}" if array.dtype.kind == "c" else a(value)


@contextmanager
def hinted(help: str) -> Iterator[None]:
    """Add a hint to every error of the user's code that is raised in the context."""
    try:
        yield
    except InputError as error:
        told = [replace(c, help=help) if "raises" in c.message else c for c in error.complaints]
        raise InputError(*told) from error.__cause__


def refuse_infinite(losses: Array, code: Callee, arises: Callable[[], str | None]) -> None:
    """Raise an `InputError` unless every loss is finite.

    arises: a function that returns a hint about where the first inf or NaN arises, or None.
    """
    finite = np.isfinite(losses)
    if not finite.all():
        i = int(np.flatnonzero(~finite)[0])
        which = f"loss term {i} of {len(losses)}" if len(losses) > 1 else "the loss"
        raise code.complain(f"returns {losses[i]} for {which}; a finite number is needed", arises())


def first_not_finite(call: Callable[[], object]) -> str | None:
    """Call the code again, and return a sentence that names the line where numpy first produces inf or NaN.

    Returns None if that line cannot be found.
    """
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            call()
    except FloatingPointError as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: {error}"
    except InputError as error:
        _, is_of_numpy, where = error.complaints[0].message.partition("raises FloatingPointError at ")
        if not is_of_numpy:
            return None
    else:
        return None
    return f"the first number that is not finite arises at {where}"


# --- and again -------------------------------------------------------------------------------------------


def refuse_changed(before: Mapping[str, Array], after: Mapping[str, Array], code: Callee) -> None:
    """Raise an `InputError` if the code changed any of its arguments, since differences need them unchanged.

    before: the arguments by name, before the call.
    after: the arguments by name, after the call.
    """
    names = " and ".join(
        name
        for name, array in before.items()
        if (after[name].shape, after[name].tobytes()) != (array.shape, array.tobytes())
    )
    if names:
        raise code.complain(f"changes {names} in place", "work on a copy: w = w.copy(), or w = w - step")


_SEED = "seed the random numbers inside the function, switch dropout off, and keep no state between calls"


def refuse_other_losses(first: Evaluation, second: Evaluation, code: Callee) -> None:
    """Raise an `InputError` if the losses of two equal calls differ more than racing threads can explain."""
    if not same(first.losses, second.losses, first.apart):
        totals = f"{first.losses.sum():.10g}, then {second.losses.sum():.10g}"
        raise code.complain(
            f"returns different losses when called twice with the same arguments: {totals}", _SEED
        )


def refuse_other_gradients(
    first: Evaluation, second: Evaluation, again: Callable[[], Evaluation], code: Callee
) -> None:
    """Raise an `InputError` if the gradients of two equal calls differ more than threads can explain.

    again: a function that repeats the call.
    """
    different = [n for n in first.gradients if not same(first.gradients[n], second.gradients[n], first.apart)]
    if not different:
        return
    names = ", ".join(f"'{name}'" for name in different)
    third, fourth = again(), again()
    if all(_adds_the_same(name, first, second, third, fourth) for name in different):
        raise code.complain(
            f"seems to accumulate its gradients across calls: every call adds the same to those of {names}",
            "set the gradients to 0 at the start of every call",
        )
    raise code.complain(
        f"returns different gradients when called twice with the same arguments, for {names}",
        f"{_SEED}; if backward draws a mask of its own, pass it the mask that forward used",
    )


def _adds_the_same(name: str, *calls: Evaluation) -> bool:
    """Return whether a gradient grows by the same from the first to the second call as in the next two."""
    one, two, three, four = (call.gradients[name].astype(np.float64) for call in calls)
    return len({array.shape for array in (one, two, three, four)}) == 1 and same(
        two - one, four - three, 1e3 * calls[0].apart
    )


def refuse_mixed(function: Function, apart: float, code: Callee) -> None:
    """Raise an `InputError` if a vectorized function's losses for a stack and for single points differ.

    apart: the largest difference allowed, relative to the largest loss term.
    """
    if not function.vectorized:
        return
    here = function.parameters
    nearby = {name: array * (1.0 + 2.0**-10) for name, array in here.items()}
    both = function.losses_at([here, nearby])
    for together, alone in zip(both, (here, nearby), strict=True):
        if not same(function.losses(alone), together, apart):
            message = "returns a different result for a point in a stack than for that point alone"
            raise code.complain(message, _VECTORIZED)


def differing(first: Evaluation, second: Evaluation) -> list[str]:
    """Return the names of the results that differ between two calls, such as ``the gradient of w``."""
    loss = [] if same(first.losses, second.losses, first.apart) else ["the loss"]
    return loss + [
        f"the gradient of {name}"
        for name, gradient in first.gradients.items()
        if not same(gradient, second.gradients[name], first.apart)
    ]


def same(first: Array, second: Array, apart: float) -> bool:
    """Return whether two arrays differ by at most `apart` times the largest absolute value in the first."""
    if first.shape != second.shape:
        return False
    if np.array_equal(first, second, equal_nan=True):
        return True
    size = np.max(np.abs(first, dtype=np.float64), initial=0.0)
    return bool(np.allclose(first, second, rtol=0.0, atol=apart * size, equal_nan=True))
