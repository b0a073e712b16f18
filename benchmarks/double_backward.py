"""Check 90 torch functions with right and wrong first and second derivatives, as torch's own checks do.

    python benchmarks/double_backward.py [--seed N] [--only NAME…]

Each function has a backward written by hand. It is right, or it has one of the mistakes in `MISTAKES`: in the
first derivative, or in double backward alone. Among the functions are complex ones, sparse ones, and ones
with several outputs and inputs. Each is checked by `check_torch` to the first and to the second order, and by
torch.autograd.gradcheck and gradgradcheck with their defaults.

A check of the second order is right if it agrees on functions whose first and second derivatives are right,
and otherwise calls them wrong or refuses them. Exits with 1 if one of gradcheck's verdicts is false.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from gradcheck_cli import InputError, UndecidedGradientError, WrongGradientError, check_torch

Tensor = torch.Tensor
Tensors = tuple[Tensor, ...]


class Base(NamedTuple):
    """A function with its vector-Jacobian product, both written with operations that torch differentiates.

    forward: takes the inputs.  vjp: takes the inputs and one upstream per output; one gradient per input.
    inputs: draws the inputs.
    mistakes: the mistakes that can be seen in this function.
    """

    forward: Callable[..., Any]
    vjp: Callable[..., Tensors]
    inputs: Callable[[torch.Generator], Tensors]
    mistakes: tuple[str, ...]


def real(*shapes: tuple[int, ...]) -> Callable[[torch.Generator], Tensors]:
    return lambda g: tuple(torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)


def complex_(*shapes: tuple[int, ...]) -> Callable[[torch.Generator], Tensors]:
    return lambda g: tuple(torch.randn(s, generator=g, dtype=torch.complex128) for s in shapes)


# --- the functions -----------------------------------------------------------------------------------------


def softmax_vjp(x: Tensor, up: Tensor) -> Tensors:
    p = x.softmax(dim=-1)
    return (p * (up - (p * up).sum(dim=-1, keepdim=True)),)


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def layer_norm_vjp(x: Tensor, up: Tensor) -> Tensors:
    centred = x - x.mean(dim=-1, keepdim=True)
    size = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    z = centred / size
    return ((up - up.mean(dim=-1, keepdim=True) - z * (z * up).mean(dim=-1, keepdim=True)) / size,)


PLACES = torch.tensor([[0, 1, 1, 2], [2, 0, 3, 1]])
ROWS = torch.tensor([2, 0, 2, 3])


def sparse_product(values: Tensor, dense: Tensor) -> Tensor:
    return torch.sparse.mm(torch.sparse_coo_tensor(PLACES, values, (3, 4)), dense)


def sparse_product_vjp(values: Tensor, dense: Tensor, up: Tensor) -> Tensors:
    columns = torch.zeros_like(dense).index_add(0, PLACES[1], values[:, None] * up[PLACES[0]])
    return (up[PLACES[0]] * dense[PLACES[1]]).sum(dim=1), columns


def rows_vjp(table: Tensor, up: Tensor) -> Tensors:
    squares = torch.sparse_coo_tensor(ROWS[None], 2 * table[ROWS] * up, table.shape)
    return (squares.to_dense(),)


ALL = ("one entry", "saved detached", "upstream detached", "second off", "once")
LINEAR = ("one entry", "upstream detached", "second off")

BASES: dict[str, Base] = {
    "cube": Base(lambda x: x**3, lambda x, u: (3 * x**2 * u,), real((4,)), ALL),
    "tanh": Base(
        torch.tanh, lambda x, u: ((1 - torch.tanh(x) ** 2) * u,), real((2, 3)), (*ALL[:4], "slightly off")
    ),
    "softplus": Base(torch.nn.functional.softplus, lambda x, u: (torch.sigmoid(x) * u,), real((5,)), ALL[:3]),
    "product": Base(lambda x, y: x * y, lambda x, y, u: (y * u, x * u), real((3,), (3,)), ALL[1:]),
    "matmul": Base(lambda x, w: x @ w, lambda x, w, u: (u @ w.T, x.T @ u), real((2, 3), (3, 2)), ALL[:4]),
    "softmax": Base(lambda x: x.softmax(dim=-1), softmax_vjp, real((2, 4)), ALL[1:]),
    "layer norm": Base(layer_norm, layer_norm_vjp, real((2, 5)), ALL[:4]),
    "length": Base(
        lambda x: x.square().sum().sqrt(),
        lambda x, u: (x / x.square().sum().sqrt() * u,),
        real((4,)),
        ALL[:3],
    ),
    "centred": Base(lambda x: x - x.mean(), lambda x, u: (u - u.mean(),), real((5,)), LINEAR),
    "sum to here": Base(
        lambda x: x.cumsum(dim=0), lambda x, u: (u.flip(0).cumsum(dim=0).flip(0),), real((5,)), LINEAR
    ),
    "sine and cosine": Base(
        lambda x: (x.sin(), x.cos()),
        lambda x, u, v: (x.cos() * u - x.sin() * v,),
        real((4,)),
        (*ALL[:4], "one output"),
    ),
    "polar": Base(
        lambda r, t: (r * t.cos(), r * t.sin()),
        lambda r, t, u, v: (t.cos() * u + t.sin() * v, r * (t.cos() * v - t.sin() * u)),
        real((3,), (3,)),
        ("one output", "second off", "saved detached"),
    ),
    "complex product": Base(
        lambda x, y: x * y,
        lambda x, y, u: (y.conj() * u, x.conj() * u),
        complex_((3,), (3,)),
        ("not conjugate", "saved detached", "second off", "upstream detached"),
    ),
    "complex square": Base(
        lambda x: x**2, lambda x, u: (2 * x.conj() * u,), complex_((4,)), ("not conjugate", *ALL[1:4])
    ),
    "squared modulus": Base(
        lambda x: (x * x.conj()).real,
        lambda x, u: (2 * x * u,),
        complex_((3,)),
        ("not conjugate", "slightly off", *ALL[1:3]),
    ),
    "sparse product": Base(
        sparse_product, sparse_product_vjp, real((4,), (4, 2)), (*ALL[:4], "slightly off")
    ),
    "rows of a table": Base(lambda t: t[ROWS] ** 2, rows_vjp, real((4, 2)), ALL[:4]),
    "large numbers": Base(
        lambda x: (1e8 * x) ** 2, lambda x, u: (2e16 * x * u,), real((3,)), ("one entry", "second off")
    ),
    "small numbers": Base(
        lambda x: 1e-7 * x**3, lambda x, u: (3e-7 * x**2 * u,), real((3,)), ("one entry", "second off")
    ),
}


# --- the mistakes ------------------------------------------------------------------------------------------


class Off(torch.autograd.Function):
    """The identity, with a backward that is 10 % off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Tensor:
        return 1.1 * up


def one_entry(vjp: Callable[..., Tensors]) -> Callable[..., Tensors]:
    def wrong(*arguments: Tensor) -> Tensors:
        first, *rest = vjp(*arguments)
        factor = torch.ones(first.shape, dtype=torch.float64)
        factor.view(-1)[-1] = 1.01
        return (first * factor, *rest)

    return wrong


def detached(saved: bool) -> Callable[[Callable[..., Tensors], int], Callable[..., Tensors]]:
    def change(vjp: Callable[..., Tensors], inputs: int) -> Callable[..., Tensors]:
        def wrong(*arguments: Tensor) -> Tensors:
            hidden = range(inputs) if saved else range(inputs, len(arguments))
            return vjp(*(a.detach() if i in hidden else a for i, a in enumerate(arguments)))

        return wrong

    return change


def one_output(vjp: Callable[..., Tensors], inputs: int) -> Callable[..., Tensors]:
    return lambda *a: vjp(*a[: inputs + 1], *(0 * up for up in a[inputs + 1 :]))


class Mistake(NamedTuple):
    """A change of a vector-Jacobian product, and which derivatives it leaves right."""

    change: Callable[[Callable[..., Tensors], int], Callable[..., Tensors]]
    first: bool
    second: bool
    once: bool = False


MISTAKES: dict[str, Mistake] = {
    "right": Mistake(lambda vjp, n: vjp, True, True),
    "one entry": Mistake(lambda vjp, n: one_entry(vjp), False, True),
    "slightly off": Mistake(lambda vjp, n: lambda *a: tuple(1.0005 * g for g in vjp(*a)), False, True),
    "one output": Mistake(one_output, False, True),
    "not conjugate": Mistake(lambda vjp, n: lambda *a: tuple(g.conj() for g in vjp(*a)), False, True),
    "saved detached": Mistake(detached(saved=True), True, False),
    "upstream detached": Mistake(detached(saved=False), True, False),
    "second off": Mistake(lambda vjp, n: lambda *a: tuple(map(Off.apply, vjp(*a))), True, False),
    "once": Mistake(lambda vjp, n: vjp, True, False, once=True),
}


def function_of(base: Base, mistake: Mistake, inputs: int) -> Callable[..., Any]:
    vjp = mistake.change(base.vjp, inputs)

    def backward(ctx: Any, *ups: Tensor) -> Any:
        return vjp(*ctx.saved_tensors, *ups)

    def forward(ctx: Any, *given: Tensor) -> Any:
        ctx.save_for_backward(*given)
        return base.forward(*given)

    if mistake.once:
        backward = torch.autograd.function.once_differentiable(backward)
    made = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Callable[..., Any] = type("Made", (torch.autograd.Function,), made).apply
    return function


# --- the verdicts ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The verdicts on one function; each is "right", "wrong", "refused" or "undecided"."""

    name: str
    mistake: str
    ours: tuple[str, str]
    theirs: tuple[str, str]

    @property
    def truth(self) -> tuple[bool, bool]:
        mistake = MISTAKES[self.mistake]
        return mistake.first, mistake.first and mistake.second

    @property
    def ours_are_true(self) -> bool:
        return all(map(is_true, self.ours, self.truth))

    @property
    def theirs_are_true(self) -> bool:
        """gradgradcheck is about the second derivative alone."""
        mistake = MISTAKES[self.mistake]
        return all(map(is_true, self.theirs, (mistake.first, mistake.second)))


def is_true(verdict: str, right: bool) -> bool:
    return verdict == "right" if right else verdict in ("wrong", "refused")


def row(name: str, mistake: str, seed: int) -> Row:
    base, generator = BASES[name], torch.Generator().manual_seed(seed + zlib.crc32(name.encode()) % 1000)
    inputs = base.inputs(generator)
    function = function_of(base, MISTAKES[mistake], len(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Row(name, mistake, ours(function, inputs), theirs(function, inputs))


def ours(function: Callable[..., Any], inputs: Tensors) -> tuple[str, str]:
    named = {f"x{i}": tensor for i, tensor in enumerate(inputs)}

    def verdict(order: int) -> str:
        try:
            check_torch(function, named, order=order)
        except WrongGradientError:
            return "wrong"
        except UndecidedGradientError:
            return "undecided"
        except InputError:
            return "refused"
        return "right"

    return verdict(1), verdict(2)


def theirs(function: Callable[..., Any], inputs: Tensors) -> tuple[str, str]:
    given = tuple(tensor.clone().requires_grad_() for tensor in inputs)

    def verdict(check: Callable[..., bool]) -> str:
        try:
            return "right" if check(function, given, raise_exception=False) else "wrong"
        except RuntimeError:
            return "refused"

    return verdict(torch.autograd.gradcheck), verdict(torch.autograd.gradgradcheck)


def functions() -> Iterator[tuple[str, str]]:
    for name, base in BASES.items():
        yield name, "right"
        yield from ((name, mistake) for mistake in base.mistakes)


# --- the table ---------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    head = f"{'function':<16} {'backward':<18} {'ours: 1st':<11} {'2nd':<10} {'gradcheck':<10} gradgradcheck"
    return "\n".join([head, *map(line, rows)])


def line(row: Row) -> str:
    first, second = row.ours
    false = "" if row.ours_are_true else "   FALSE, ours"
    false += "" if row.theirs_are_true else "   false, theirs"
    checks = f"{first:<11} {second:<10} {row.theirs[0]:<10} {row.theirs[1]}"
    return f"{row.name:<16} {row.mistake:<18} {checks}{false}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    parser.add_argument("--only", nargs="+", choices=list(BASES), metavar="NAME")
    options = parser.parse_args(arguments)
    chosen = [pair for pair in functions() if pair[0] in (options.only or BASES)]
    rows = [row(name, mistake, options.seed) for name, mistake in chosen]
    print(f"{len(rows)} functions from --seed {options.seed}\n\n{table(rows)}\n")
    print(f"gradcheck: {sum(r.ours_are_true for r in rows)} of {len(rows)} are true")
    print(f"torch: {sum(r.theirs_are_true for r in rows)} of {len(rows)} are true")
    return 0 if all(r.ours_are_true for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
