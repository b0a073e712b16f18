"""Functions with products of parameters, whose gradients transpose a factor or forget a conjugate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from planted_patterns.case import Array, Arrays, Case, drawn_by, of_code, of_numpy, of_pair

_SQUARE = {"x": drawn_by(60).normal(size=(4, 4)), "w": drawn_by(61).normal(size=(4, 4))}
_WIDE = {"x": drawn_by(62).normal(size=(6, 4)), "w": drawn_by(61).normal(size=(4, 4))}
_FEW = {"x": drawn_by(63).normal(size=(3, 5)), "w": drawn_by(64).normal(size=(3, 5))}
_STACK = {"x": drawn_by(65).normal(size=(2, 3, 4)), "w": drawn_by(61).normal(size=(4, 4))}
_COLUMN = {"x": drawn_by(66).normal(size=4), "w": drawn_by(61).normal(size=(4, 4))}

Backward = Callable[[Array, Array, Array], Array]


def transposed_factors() -> Iterator[Case]:
    """Yield functions of x wᵀ or of w x in which one gradient is a wrong product."""
    of_x: tuple[tuple[str, Backward], ...] = (("d w.T", lambda d, x, w: d @ w.T),)
    for name, wrong in of_x:
        yield _regression(name, wrong, None, _WIDE)
        yield _layer(name, wrong, None, _WIDE)
        yield _layer(f"{name}, tokens", wrong, None, _STACK)
    for name, wrong in (
        ("x.T d.T", lambda d, x, w: x.T @ d.T),
        ("d x", lambda d, x, w: d @ x),
        ("x d", lambda d, x, w: x @ d),
        ("d.T x.T", lambda d, x, w: d.T @ x.T),
    ):
        yield _regression(name, None, wrong, _SQUARE)
        yield _layer(name, None, wrong, _SQUARE)
    yield _layer("d x, fewer samples than inputs", None, lambda d, x, w: d @ x, _FEW)
    yield of_pair(
        "w x with w for w.T",
        lambda x, w: np.tanh(w @ x),
        lambda d, x, w: (w @ (dz := d / np.cosh(w @ x) ** 2), np.outer(dz, x)),
        _COLUMN,
    )


def _regression(name: str, of_x: Backward | None, of_w: Backward | None, at: Arrays) -> Case:
    y = drawn_by(67).normal(size=(len(at["x"]), len(at["w"])))

    def loss(p: Arrays) -> float:
        return float(0.5 * ((np.tanh(p["x"] @ p["w"].T) - y) ** 2).sum())

    def gradients(p: Arrays) -> Arrays:
        a = np.tanh(p["x"] @ p["w"].T)
        given = (a - y) * (1.0 - a * a), p["x"], p["w"]
        return _gradients(of_x, of_w, *given)

    return of_numpy(f"regression, {name}", loss, gradients, at)


def _layer(name: str, of_x: Backward | None, of_w: Backward | None, at: Arrays) -> Case:
    def backward(d: Array, x: Array, w: Array) -> tuple[Array, ...]:
        return tuple(_gradients(of_x, of_w, d, x, w).values())

    return of_pair(f"layer, {name}", lambda x, w: x @ w.T, backward, at)


def _gradients(of_x: Backward | None, of_w: Backward | None, d: Array, x: Array, w: Array) -> Arrays:
    right = np.swapaxes(d.reshape(-1, d.shape[-1]), 0, 1) @ x.reshape(-1, x.shape[-1])
    return {"x": of_x(d, x, w) if of_x else d @ w, "w": of_w(d, x, w) if of_w else right}


# --- complex ------------------------------------------------------------------------------------------------


def _complex(seed: int, *shape: int) -> Any:
    import torch

    rng = drawn_by(seed)
    return torch.tensor(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def missing_conjugates() -> Iterator[Case]:
    """Yield functions of complex tensors in torch whose backward forgets a conjugate, or adds one."""
    elementwise = {"x": _complex(70, 5), "w": _complex(71, 5)}
    matrices = {"x": _complex(72, 5, 4), "w": _complex(73, 4, 3)}
    yield _of("x * w", lambda x, w: x * w, lambda g, x, w: (g * w, g * x.conj()), elementwise)
    yield _of("x @ w, in x", lambda x, w: x @ w, lambda g, x, w: (g @ w.T, x.mH @ g), matrices)
    few = {"x": _complex(74, 3, 4), "w": _complex(75, 4, 2)}
    yield _of("x @ w, in w", lambda x, w: x @ w, lambda g, x, w: (g @ w.mH, x.T @ g), few)
    yield _of("square", lambda x: x * x, lambda g, x: (2 * g * x,), {"x": _complex(76, 6)})
    yield _of("exp", lambda x: x.exp(), lambda g, x: (g * x.exp(),), {"x": _complex(77, 6)})
    yield _of("tanh", lambda x: x.tanh(), lambda g, x: (g * (1 - x.tanh() ** 2),), {"x": _complex(78, 2, 3)})
    yield _of("scaled", lambda x: 2 * x, lambda g, x: (2 * g.conj(),), {"x": _complex(79, 6)})
    yield _of(
        "conj(x) * w",
        lambda x, w: x.conj() * w,
        lambda g, x, w: (g * w.conj(), g * x),
        {"x": _complex(80, 5), "w": _complex(81, 5)},
    )


def other_complex_mistakes() -> Iterator[Case]:
    """Yield functions of complex tensors in torch with a mistake other than in a conjugate."""
    given = {"x": _complex(82, 6), "w": _complex(83, 6)}

    def times(name: str, wrong: Callable[[Any], Any]) -> Case:
        def backward(g: Any, x: Any, w: Any) -> tuple[Any, Any]:
            return wrong(g * w.conj()), g * x.conj()

        return _of(name, lambda x, w: x * w, backward, given)

    yield times("half", lambda g: 0.5 * g)
    yield times("real part alone", lambda g: g.real + 0j)
    yield times("rolled", lambda g: g.roll(1))
    yield times("times i", lambda g: 1j * g)
    yield times("one entry", lambda g: g * (1 + 0.5 * (np.arange(6) == 2)))
    yield times("signs", lambda g: g * (-1.0) ** np.arange(6))
    yield times("absolute value", lambda g: g.abs() + 0j)
    yield times("parts swapped", lambda g: 1j * g.conj())
    yield times("negative", lambda g: -g)


def _of(name: str, forward: Callable[..., Any], backward: Callable[..., Any], at: dict[str, Any]) -> Case:
    import torch

    from gradcheck_cli import check_torch

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Any) -> Any:
            ctx.save_for_backward(*given)
            return forward(*given)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            return backward(upstream, *ctx.saved_tensors)

    given = {key: value.clone() for key, value in at.items()}
    return of_code(f"torch, {name}", check_torch, Own.apply, given)
