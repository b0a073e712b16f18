"""Functions whose gradients leave out samples or outputs, or use values that an earlier call kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gradcheck_cli import check_layer
from planted_patterns.case import Array, Arrays, Case, drawn_by, of_code, of_numpy, of_pair

_X, _Y = drawn_by(50).normal(size=(8, 3)), drawn_by(51).normal(size=(8, 2))
_AT = {"w": drawn_by(52).normal(size=(2, 3)), "b": drawn_by(53).normal(size=2)}

_PARTS: Mapping[str, Any] = {
    "the first half": slice(4),
    "the second half": slice(4, None),
    "every second sample": slice(None, None, 2),
    "all samples but the last": slice(-1),
    "the first sample": slice(1),
}


def _losses(p: Arrays) -> Array:
    return 0.5 * np.square(np.tanh(_X @ p["w"].T + p["b"]) - _Y).sum(axis=1)


def _gradients(p: Arrays, of: Any = slice(None)) -> Arrays:
    a = np.tanh(_X[of] @ p["w"].T + p["b"])
    delta = (a - _Y[of]) * (1.0 - a * a)
    return {"w": delta.T @ _X[of], "b": delta.sum(axis=0)}


def parts_of_samples() -> Iterator[Case]:
    for words, part in _PARTS.items():

        def of_part(p: Arrays, part: Any = part) -> Arrays:
            return _gradients(p, part)

        yield of_numpy(f"regression, {words}", _losses, of_part, _AT)
        yield _layer_of_part(words, part)


def _layer_of_part(words: str, part: Any) -> Case:
    def backward(dout: Array, x: Array, w: Array) -> tuple[Array, Array]:
        return dout @ w, dout[part].T @ x[part]

    return of_pair(f"affine layer, {words}", lambda x, w: x @ w.T, backward, {"x": _X, "w": _AT["w"]})


def parts_of_outputs() -> Iterator[Case]:
    """Yield layers with several outputs whose backward leaves out the upstream gradient of one of them."""
    for count in (2, 3):
        for left_out in range(count):
            yield _layer_without(left_out, count)


def _layer_without(left_out: int, count: int) -> Case:
    functions, slopes = (
        (np.tanh, np.cos, np.square),
        (lambda z: np.cosh(z) ** -2, lambda z: -np.sin(z), lambda z: 2.0 * z),
    )

    def forward(x: Array, w: Array) -> tuple[Any, ...]:
        return *(f(x @ w.T) for f in functions[:count]), (x, w)

    def backward(*given: Any) -> tuple[Array, Array]:
        *douts, (x, w) = given
        z = x @ w.T
        dz = sum(
            d * slope(z) for k, (d, slope) in enumerate(zip(douts, slopes, strict=False)) if k != left_out
        )
        return dz @ w, dz.T @ x

    name = f"layer with {count} outputs, without output {left_out}"
    return of_code(name, check_layer, forward, backward, {"x": _X, "w": _AT["w"]}, outputs=count)


def kept_from_the_first_call() -> Iterator[Case]:
    def gradients_of(keep: Callable[[Arrays], Arrays]) -> Case:
        kept: Arrays = {}

        def gradients(p: Arrays) -> Arrays:
            kept.update({} if kept else keep(p))
            return {**_gradients(p), **kept}

        return of_numpy("regression that keeps its gradient", _losses, gradients, _AT)

    yield gradients_of(_gradients)
    yield _layer_that_keeps("x", lambda x, h: x)
    yield gradients_of(lambda p: {"w": _gradients(p)["w"]})
    yield gradients_of(lambda p: {"b": _gradients(p)["b"]})
    yield _layer_that_keeps("h", lambda x, h: h)


def _layer_that_keeps(name: str, keep: Callable[[Array, Array], Array]) -> Case:
    kept: Arrays = {}

    def forward(x: Array, w: Array) -> Array:
        h = np.tanh(x @ w.T)
        kept.setdefault(name, keep(x, h).copy())
        return h

    def backward(dout: Array, x: Array, w: Array) -> tuple[Array, Array]:
        now = {"x": x, "h": np.tanh(x @ w.T)} | kept
        dz = dout * (1.0 - now["h"] ** 2)
        return dz @ w, dz.T @ now["x"]

    return of_pair(f"layer that keeps {name}", forward, backward, {"x": _X, "w": _AT["w"]})
