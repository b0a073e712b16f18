"""Mistakes in the backward pass of a matrix product of two computed values, such as q kᵀ in attention."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import ATTENTION
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, share, variant
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂a = c g bᵀ, ∂L/∂b = c aᵀ g"


def _unscaled(visit: Visit, _: float) -> Handed | None:
    step = visit.step
    assert isinstance(step, Matmul)
    return replace(step, scale=1.0).vjp(visit.p, visit.inputs, visit.output, visit.upstream)


def _of_unscaled(slot: int) -> Backward:
    return share(lambda visit: _shares(_unscaled(visit, 0.0))[slot], slot)


def _shares(handed: Handed | None) -> tuple[Array, ...]:
    assert handed is not None
    return handed[0]


def _scaled_twice(visit: Visit, _: float) -> Handed | None:
    step = visit.step
    assert isinstance(step, Matmul)
    return tuple(step.scale * each for each in visit.right[0]), {}


def _swapped(visit: Visit, _: float) -> Handed | None:
    a, b = visit.right[0]
    return ((b, a), {}) if a.shape == b.shape else None


def _untransposed(slot: int) -> Backward:
    """Return a `vjp` that transposes the upstream gradient g for one input and is otherwise correct."""

    def of(visit: Visit) -> Array | None:
        step, g = visit.step, visit.upstream
        if g.shape[-1] != g.shape[-2]:
            return None
        turned = np.swapaxes(g, -1, -2)
        return step.vjp(visit.p, visit.inputs, visit.output, turned)[0][slot]

    return share(of, slot)


def _with_own_factor(slot: int) -> Backward:
    """Return a `vjp` that multiplies g by a factor itself in that factor's gradient."""

    def of(visit: Visit) -> Array | None:
        step, g, own = visit.step, visit.upstream, visit.inputs[slot]
        assert isinstance(step, Matmul)
        if not step.transposed or g.shape[-1] != g.shape[-2]:
            return None
        result: Array = step.scale * ((g if slot == 0 else np.swapaxes(g, -1, -2)) @ own)
        return result

    return share(of, slot)


def _with_factor_turned(slot: int) -> Backward:
    """Return a `vjp` that transposes the other factor, which must be square."""

    def of(visit: Visit) -> Array | None:
        other = visit.inputs[1 - slot]
        if other.shape[-1] != other.shape[-2]:
            return None
        turned = np.swapaxes(other, -1, -2)
        inputs = (visit.inputs[0], turned) if slot == 0 else (turned, visit.inputs[1])
        return visit.step.vjp(visit.p, inputs, visit.output, visit.upstream)[0][slot]

    return share(of, slot)


Order = Callable[[Array], Array]
"""A function that reorders the heads of an array (N, heads, …), for N samples."""


def _with_heads(order: Order, slots: Collection[int], fewest: int) -> Backward:
    """Return a `vjp` that reorders the heads of the upstream gradient.

    slots: the factors whose gradients use the reordered upstream.
    fewest: the number of heads below which another order is the same as this one.
    """

    def backward(visit: Visit, _: float) -> Handed | None:
        g = visit.upstream
        if g.ndim != 4 or g.shape[1] < fewest:
            return None
        reordered = visit.step.vjp(visit.p, visit.inputs, visit.output, order(g))[0]
        pairs = enumerate(zip(visit.right[0], reordered, strict=True))
        return tuple(wrong if slot in slots else right for slot, (right, wrong) in pairs), {}

    return backward


def _rolled(by: int) -> Order:
    return lambda g: np.roll(g, by, axis=1)


_HEADS: tuple[tuple[Collection[int], str, str], ...] = (
    ((0, 1), "the whole backward pass of a product", "dL_dmixed = heads(y @ w_out, 2)[:, ::-1]"),
    (
        (0,),
        "the gradient of a product's first factor, such as the queries,",
        "dL_dq, dL_dk = dL_ds[:, ::-1] @ k * scale, turned(dL_ds) @ q * scale",
    ),
    (
        (1,),
        "the gradient of a product's second factor, such as the keys,",
        "dL_dq, dL_dk = dL_ds @ k * scale, turned(dL_ds)[:, ::-1] @ q * scale",
    ),
)

_ORDERS: tuple[tuple[Order, int, str, bool], ...] = (
    (lambda g: g[:, ::-1], 2, "in reverse order", True),
    (_rolled(1), 3, "shifted up by one", False),
    (_rolled(-1), 3, "shifted down by one", False),
)


def _of_other_heads() -> Iterator[Variant]:
    for order, fewest, words, has_code in _ORDERS:
        for slots, which, code in _HEADS:
            yield variant(
                Matmul,
                "heads in another order",
                ATTENTION,
                _with_heads(order, slots, fewest),
                f"{which} uses g with its heads {words}",
                "g of another head",
                "g of the same head",
                code * has_code,
            )


MATMUL: tuple[Variant, ...] = (
    variant(
        Matmul,
        "scale forgotten in backward",
        ATTENTION,
        _unscaled,
        "the product's backward pass lacks the scale 1/√d",
        "∂L/∂a = g bᵀ, ∂L/∂b = aᵀ g",
        _RIGHT,
        code="dL_dq, dL_dk = dL_ds @ k, turned(dL_ds) @ q",
    ),
    *(
        variant(
            Matmul,
            "scale forgotten in backward",
            ATTENTION,
            _of_unscaled(slot),
            f"the gradient of {which} lacks the product's scale 1/√d",
            wrong,
            _RIGHT,
            code,
        )
        for slot, which, wrong, code in (
            (
                0,
                "the first factor, such as the queries,",
                "∂L/∂a = g bᵀ",
                "dL_dq, dL_dk = dL_ds @ k, turned(dL_ds) @ q * scale",
            ),
            (
                1,
                "the second factor, such as the keys,",
                "∂L/∂b = aᵀ g",
                "dL_dq, dL_dk = dL_ds @ k * scale, turned(dL_ds) @ q",
            ),
        )
    ),
    variant(
        Matmul,
        "scale twice in backward",
        ATTENTION,
        _scaled_twice,
        "the product's backward pass applies the scale 1/√d twice",
        "∂L/∂a = c² g bᵀ, ∂L/∂b = c² aᵀ g",
        _RIGHT,
        code="dL_dq, dL_dk = dL_ds @ k * scale**2, turned(dL_ds) @ q * scale**2",
    ),
    variant(
        Matmul,
        "factors swapped",
        ATTENTION,
        _swapped,
        "the gradients of the two factors of a product, such as queries and keys, are swapped",
        "∂L/∂a = c aᵀ g, ∂L/∂b = c g bᵀ",
        _RIGHT,
        code="dL_dq, dL_dk = turned(dL_ds) @ q * scale, dL_ds @ k * scale",
    ),
    *(
        variant(
            Matmul,
            "upstream not transposed",
            ATTENTION,
            _untransposed(slot),
            f"the gradient of {which} uses g instead of gᵀ, or vice versa",
            wrong,
            _RIGHT,
            code,
        )
        for slot, which, wrong, code in (
            (
                0,
                "a product's first factor",
                "∂L/∂a = c gᵀ bᵀ",
                "dL_dq, dL_dk = turned(dL_ds) @ k * scale, turned(dL_ds) @ q * scale",
            ),
            (
                1,
                "a product's second factor",
                "∂L/∂b = c aᵀ gᵀ",
                "dL_dq, dL_dk = dL_ds @ k * scale, dL_ds @ q * scale",
            ),
        )
    ),
    *(
        variant(
            Matmul,
            "factor not transposed",
            ATTENTION,
            _with_factor_turned(slot),
            f"in the gradient of {which}, the other factor is not transposed, or transposed by mistake",
            wrong,
            _RIGHT,
            code,
        )
        for slot, which, wrong, code in (
            (0, "a product's first factor", "∂L/∂a = c g b", ""),
            (
                1,
                "a product's second factor, such as the values",
                "∂L/∂b = c a g",
                "dL_dp, dL_dv = dL_dmixed @ turned(v), p @ dL_dmixed",
            ),
        )
    ),
    *(
        variant(
            Matmul,
            "own factor in place of the other",
            ATTENTION,
            _with_own_factor(slot),
            f"the gradient of {which} multiplies by that factor itself, not by the other one",
            wrong,
            right,
            code,
        )
        for slot, which, wrong, right, code in (
            (
                0,
                "a product's first factor, such as the queries,",
                "∂L/∂a = c g a",
                "∂L/∂a = c g b",
                "dL_dq, dL_dk = dL_ds @ q * scale, turned(dL_ds) @ q * scale",
            ),
            (
                1,
                "a product's second factor, such as the keys,",
                "∂L/∂b = c gᵀ b",
                "∂L/∂b = c gᵀ a",
                "dL_dq, dL_dk = dL_ds @ k * scale, turned(dL_ds) @ k * scale",
            ),
        )
    ),
    *_of_other_heads(),
)
