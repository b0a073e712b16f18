"""Check right and wrong kernels in bfloat16, float16 and float32 against references in float64.

    python benchmarks/half_precision.py [--seeds 12] [--first SEED] [--kernels NAME…] [--types NAME…]

Each kernel is a forward and a backward function written by hand. It computes in float32 and rounds its
results to the type, or it rounds after every operation. Which of the two it does depends on the seed, and so
does the route: `check_layer` with a reference for forward alone, `check_layer` with a reference for both, or
`check_torch` with a reference made of torch's own operations.

Each kernel is checked right, and with three planted mistakes in a tensor drawn at random: the whole tensor,
half of its entries, or a single entry is off. The error is 1 % in float32 and 10 % in the two other types.
The single entry is off by that share of the largest one. Exits with 1 if a right kernel is called wrong or a
mistake passes.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ml_dtypes
import numpy as np
import torch
from half_precision_kernels import KERNELS, Array, Kernel

from gradcheck_cli import UndecidedGradientError, WrongGradientError, check_layer, check_torch

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
ERRORS = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.1}
"""The size of a planted mistake in each type."""


# --- a kernel in a type -------------------------------------------------------------------------------------

Change = Callable[[int, Array], Array]
"""Takes the position of a gradient and the gradient, and returns it with a planted mistake."""


def is_float(value: Array) -> bool:
    return np.dtype(value.dtype).kind in "fV"


def in_type(kernel: Kernel, dtype: Any, every: bool, change: Change) -> tuple[Callable[..., Any], ...]:
    """Return forward and backward as a kernel for one type has them: other types raise an error.

    every: whether the result of each operation is rounded, and not only what forward and backward return.
    """

    def last(array: Array) -> Array:
        return np.asarray(array).astype(dtype)

    def rounded(array: Array) -> Array:
        return last(array).astype(np.float32) if every else np.asarray(array, dtype=np.float32)

    def taken(array: Array) -> Array:
        if is_float(array) and array.dtype != dtype:
            raise TypeError(f"this kernel takes {np.dtype(dtype)}, not {array.dtype}")
        return array.astype(np.float32) if is_float(array) else array

    def forward(*inputs: Array) -> tuple[Array, Any]:
        out, cache = kernel.forward(rounded, *map(taken, inputs))
        return last(out), cache

    def backward(dout: Array, cache: Any) -> tuple[Array, ...]:
        gradients = kernel.backward(rounded, taken(dout), cache)
        return tuple(last(change(i, gradient)) for i, gradient in enumerate(gradients))

    return forward, backward


def exact(array: Array) -> Array:
    return np.asarray(array)


def as_torch_function(forward: Callable[..., Any], backward: Callable[..., Any]) -> type:
    """Return the kernel as a torch.autograd.Function."""

    class Applied(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: torch.Tensor) -> torch.Tensor:
            out, ctx.cache = forward(*map(to_numpy, inputs))
            ctx.floats = [tensor.is_floating_point() for tensor in inputs]
            return to_torch(out)

        @staticmethod
        def backward(ctx: Any, dout: torch.Tensor) -> tuple[Any, ...]:
            gradients = iter(backward(to_numpy(dout), ctx.cache))
            return tuple(to_torch(next(gradients)) if floats else None for floats in ctx.floats)

    return Applied


def to_numpy(tensor: torch.Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


def to_torch(array: Array) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array))


# --- the check ----------------------------------------------------------------------------------------------


def checked(
    kernel: Kernel, inputs: dict[str, Array], route: int, pair: tuple[Callable[..., Any], ...]
) -> str:
    """Check the kernel by one of the three routes, and return the verdict."""
    reference = partial(kernel.forward, exact), partial(kernel.backward, exact)
    try:
        if route == 2:
            tensors = {name: to_torch(array) for name, array in inputs.items()}
            check_torch(as_torch_function(*pair), tensors, reference=kernel.plain)
        else:
            check_layer(*pair, inputs, reference=reference[: 1 + route])
    except WrongGradientError:
        return "wrong"
    except UndecidedGradientError:
        return "unresolved"
    return "agrees"


def right(i: int, gradient: Array) -> Array:
    return gradient


def planted(rng: np.random.Generator, tensors: int, error: float) -> Iterator[tuple[str, Change]]:
    at, seed = int(rng.integers(tensors)), int(rng.integers(2**31))

    def factor(gradient: Array) -> Array:
        return gradient * (1 + error)

    def half(gradient: Array) -> Array:
        drawn = np.random.default_rng(seed).permutation(gradient.size).reshape(gradient.shape)
        return np.where(drawn % 2, 1, 1 - error) * gradient

    def entry(gradient: Array) -> Array:
        changed = np.array(gradient)
        changed.flat[seed % gradient.size] += error * np.abs(gradient).max()
        return changed

    for name, change in (("tensor", factor), ("half", half), ("entry", entry)):
        yield name, lambda i, gradient, change=change: change(gradient) if i == at else gradient


@dataclass(frozen=True)
class Trial:
    kernel: str
    dtype: str
    seed: int
    mistake: str
    verdict: str

    @property
    def is_false(self) -> bool:
        return self.verdict == ("agrees" if self.mistake else "wrong")


def trials(name: str, dtype: str, seed: int) -> Iterator[Trial]:
    """Check one kernel right, and with each planted mistake."""
    kernel, rng = KERNELS[name], np.random.default_rng([zlib.crc32(name.encode()), seed])
    inputs = {
        key: value.astype(TYPES[dtype]) if is_float(value) else value
        for key, value in kernel.inputs(rng).items()
    }
    every, route = bool(seed % 2), seed % 3
    tensors = sum(map(is_float, inputs.values()))
    for mistake, change in (("", right), *planted(rng, tensors, ERRORS[dtype])):
        pair = in_type(kernel, TYPES[dtype], every, change)
        yield Trial(name, dtype, seed, mistake, checked(kernel, inputs, route, pair))


VERDICTS = ("agrees", "unresolved", "wrong")


def report(found: Sequence[Trial]) -> Iterator[str]:
    """Yield a table of counts, and a line for each false verdict."""
    yield f"{'':10} {'right:':>8} {'':10} {'':6} {'planted:':>10}"
    yield f"{'type':10} {'agrees':>8} {'undecided':>10} {'wrong':>6} {'wrong':>10} {'undecided':>10} agrees"
    for dtype in dict.fromkeys(trial.dtype for trial in found):
        counts = Counter((bool(t.mistake), t.verdict) for t in found if t.dtype == dtype)
        agrees, undecided, wrong = (counts[False, verdict] for verdict in VERDICTS)
        passed, unseen, seen = (counts[True, verdict] for verdict in VERDICTS)
        yield f"{dtype:10} {agrees:8} {undecided:10} {wrong:6} {seen:10} {unseen:10} {passed:7}"
    yield from (f"FALSE: {trial}" for trial in found if trial.is_false)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    found = [
        trial
        for name in options.kernels
        for dtype in options.types
        for seed in seeds
        for trial in trials(name, dtype, seed)
    ]
    print(f"{len(options.kernels)} kernels, {len(seeds)} seeds from {options.first}")
    print("\n".join(report(found)))
    return int(any(trial.is_false for trial in found))


if __name__ == "__main__":
    sys.exit(main())
