"""Plant patterns in the gradients of functions, and count how often they are named, and how often falsely.

    python benchmarks/function_patterns.py [--only PATTERN]

Every pattern is planted in functions of numpy, pairs of forward and backward, torch and jax. Other mistakes
in the same functions must never get the name of a pattern.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli import WrongGradientError, check_gradients, check_layer
from gradcheck_cli.report import Report

Array = np.ndarray
Arrays = dict[str, Array]
Gradients = Callable[[Arrays], Arrays]


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@dataclass(frozen=True)
class Case:
    """A function with a gradient.

    run: checks the gradient with these changes to it, and returns the report.
    """

    name: str
    run: Callable[[Callable[[Arrays], Arrays]], Report]


def _of_numpy(name: str, loss: Callable[[Arrays], float], gradients: Gradients, at: Arrays) -> Case:
    def run(change: Callable[[Arrays], Arrays]) -> Report:
        return _report(check_gradients, lambda p: (loss(p), change(gradients(p))), at)

    return Case(name, run)


def _of_pair(name: str, forward: Any, backward: Any, at: Arrays) -> Case:
    def run(change: Callable[[Arrays], Arrays]) -> Report:
        def remembering(*given: Array) -> Any:
            return forward(*given), given

        def changed(dout: Any, cache: Any) -> Any:
            return tuple(change(dict(zip(at, backward(dout, *cache), strict=True))).values())

        return _report(check_layer, remembering, changed, tuple(at.values()))

    return Case(name, run)


def _of_code(name: str, check: Callable[..., Any], *given: Any, **more: Any) -> Case:
    """Return a case whose gradient cannot be changed, because torch or jax computes it."""
    return Case(name, lambda _: _report(check, *given, **more))


def _report(check: Callable[..., Report], *given: Any, **more: Any) -> Report:
    try:
        return check(*given, **more, allow_undecided=True)
    except WrongGradientError as error:
        return error.report


def unchanged(gradients: Arrays) -> Arrays:
    return gradients


def named(report: Report) -> set[str]:
    """Return the kinds that the first answer of a report names, or its note on a staircase."""
    if any("is a staircase in" in note for note in report.unusual):
        return {"straight-through estimate"}
    if report.diagnosis is None or not report.diagnosis.answers:
        return set()
    return {cause.kind for cause in report.diagnosis.answers[0].causes}


# --- functions of symmetric matrices ------------------------------------------------------------------------


def _spd(n: int, seed: int) -> Array:
    half = _rng(seed).normal(size=(n, n))
    whole = half @ half.T + n * np.eye(n)
    return 0.5 * (whole + whole.T)


_VECTOR, _SQUARE = _rng(1).normal(size=4), _rng(2).normal(size=(4, 4))


@dataclass(frozen=True)
class Matrix:
    """A loss of one matrix A that depends on all of its entries, with its gradient."""

    name: str
    loss: Callable[[Array], float]
    gradient: Callable[[Array], Array]

    def case(self, n: int = 4, seed: int = 3) -> Case:
        return _of_numpy(
            self.name,
            lambda p: self.loss(p["A"]),
            lambda p: {"A": self.gradient(p["A"])},
            {"A": _spd(n, seed)},
        )

    def of_symmetric_part(self) -> Matrix:
        """Return the same loss of (A + Aᵀ) / 2."""

        def gradient(a: Array) -> Array:
            g = self.gradient(0.5 * (a + a.T))
            return 0.5 * (g + g.T)

        return Matrix(f"{self.name} of the symmetric part", lambda a: self.loss(0.5 * (a + a.T)), gradient)

    def of_lower_triangle(self) -> Matrix:
        """Return the same loss of the symmetric matrix that the lower triangle defines."""

        def whole(a: Array) -> Array:
            return np.tril(a) + np.tril(a, -1).T

        def gradient(a: Array) -> Array:
            g = self.gradient(whole(a))
            return np.tril(g) + np.tril(g.T, -1)

        return Matrix(f"{self.name} of the lower triangle", lambda a: self.loss(whole(a)), gradient)


MATRICES = (
    Matrix("logdet", lambda a: np.linalg.slogdet(a)[1], lambda a: np.linalg.inv(a).T),
    Matrix("trace of A B", lambda a: float(np.trace(a @ _SQUARE)), lambda a: _SQUARE.T),
    Matrix(
        "quadratic form",
        lambda a: float(_VECTOR @ a @ _VECTOR) ** 2,
        lambda a: 2 * float(_VECTOR @ a @ _VECTOR) * np.outer(_VECTOR, _VECTOR),
    ),
    Matrix(
        "Mahalanobis",
        lambda a: float(_VECTOR @ np.linalg.solve(a, _VECTOR)),
        lambda a: -np.outer(np.linalg.solve(a.T, _VECTOR), np.linalg.solve(a, _VECTOR)),
    ),
    Matrix("distance", lambda a: float(((a - _SQUARE) ** 2).sum()), lambda a: 2 * (a - _SQUARE)),
    Matrix(
        "trace of A A B", lambda a: float(np.trace(a @ a @ _SQUARE)), lambda a: (a @ _SQUARE + _SQUARE @ a).T
    ),
    Matrix(
        "sum of tanh",
        lambda a: float((np.tanh(0.1 * a) * _SQUARE).sum()),
        lambda a: 0.1 * _SQUARE / np.cosh(0.1 * a) ** 2,
    ),
    Matrix(
        "row sums",
        lambda a: float(a.sum(axis=1) ** 3 @ _VECTOR),
        lambda a: np.repeat((3 * a.sum(axis=1) ** 2 * _VECTOR)[:, None], 4, axis=1),
    ),
    Matrix(
        "softmax of rows",
        lambda a: float(np.log(np.exp(a).sum(axis=1)) @ _VECTOR),
        lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) * _VECTOR[:, None],
    ),
    Matrix(
        "Gaussian likelihood",
        lambda a: float(np.linalg.slogdet(a)[1] + _VECTOR @ np.linalg.solve(a, _VECTOR)),
        lambda a: np.linalg.inv(a).T - np.outer(np.linalg.solve(a.T, _VECTOR), np.linalg.solve(a, _VECTOR)),
    ),
)


_NOT_SYMMETRIC = ("trace of A B", "distance", "trace of A A B", "sum of tanh", "row sums", "softmax of rows")
"""The losses whose gradient is not symmetric even if A is."""


def _symmetrised(g: Array) -> Array:
    return 0.5 * (g + g.T)


def _twice(g: Array) -> Array:
    return g + g.T - np.diag(np.diag(g))


def _half_off_diagonal(g: Array) -> Array:
    return 0.5 * (g + np.diag(np.diag(g)))


def _each(change: Callable[[Array], Array]) -> Callable[[Arrays], Arrays]:
    return lambda gradients: {name: change(value) for name, value in gradients.items()}


# --- staircases ---------------------------------------------------------------------------------------------

_X, _Y = _rng(5).normal(size=(6, 4)), _rng(6).normal(size=(6, 3))
_W = _rng(7).normal(size=(3, 4))
_SHARED = {"w": _W, "b": _rng(8).normal(size=3)}


def _stairs(name: str, steps: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Case:
    """Return a dense layer with quantised weights, whose gradient goes straight through with this slope."""

    def loss(p: Arrays) -> float:
        return float(((_X @ steps(p["w"]).T + p["b"] - _Y) ** 2).sum())

    def gradients(p: Arrays) -> Arrays:
        delta = 2 * (_X @ steps(p["w"]).T + p["b"] - _Y)
        return {"w": delta.T @ _X * slope(p["w"]), "b": delta.sum(axis=0)}

    return _of_numpy(name, loss, gradients, dict(_SHARED))


def _ones(w: Array) -> Array:
    return np.ones_like(w)


def _heaviside(w: Array) -> Array:
    return (w > 0).astype(float)


def staircases() -> Iterator[Case]:
    yield _stairs("round", np.round, _ones)
    yield _stairs("round to 1/8", lambda w: np.round(8 * w) / 8, _ones)
    yield _stairs("int8", lambda w: np.clip(np.round(40 * w), -128, 127) / 40, _ones)
    yield _stairs("floor", np.floor, _ones)
    yield _stairs("ceil of a third", lambda w: np.ceil(3 * w) / 3, _ones)
    yield _stairs("sign", np.sign, _ones)
    yield _stairs("sign with a clip", np.sign, lambda w: (np.abs(w) <= 1).astype(float))
    yield _stairs("ternary", lambda w: np.sign(w) * (np.abs(w) > 0.4), _ones)
    yield _stairs("spike", _heaviside, lambda w: 1 / (1 + np.abs(5 * w)) ** 2)
    yield _of_pair(
        "pair of round",
        lambda x, s: s * np.round(2 * x) / 2,
        lambda d, x, s: (d * s, (d * np.round(2 * x) / 2).sum()),
        {"x": _X, "s": np.array(1.5)},
    )
    yield _of_pair("pair of sign", lambda x: np.sign(x), lambda d, x: (d,), {"x": _W})
    yield from _staircases_of_torch()
    yield from _staircases_of_jax()


def _staircases_of_torch() -> Iterator[Case]:
    import torch

    from gradcheck_cli import check_torch

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return (4 * x).round() / 4

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    class Quantised(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            w = self.weight
            return torch.nn.functional.linear(x, w + ((8 * w).round() / 8 - w).detach(), self.bias)

    torch.manual_seed(0)
    x = {"x": torch.tensor(_X)}
    yield _of_code("torch function", check_torch, Round, x)
    yield _of_code("torch detach idiom", check_torch, Quantised(4, 3).double(), x=_X)
    fake = partial(
        torch.fake_quantize_per_tensor_affine, scale=0.1, zero_point=0, quant_min=-128, quant_max=127
    )
    yield _of_code("torch fake quantize", check_torch, lambda x: fake(x), x)

    def hard(x: Any) -> Any:
        soft = x.softmax(-1)
        one_hot = torch.nn.functional.one_hot(soft.argmax(-1), soft.shape[-1])
        return (one_hot - soft).detach() + soft

    yield _of_code("torch hard softmax", check_torch, hard, x)


def _staircases_of_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    @jax.custom_vjp
    def rounded(x: Any) -> Any:
        return jnp.round(3 * x) / 3

    rounded.defvjp(lambda x: (rounded(x), None), lambda _, g: (g,))
    yield _of_code("jax custom_vjp", check_jax, lambda p: (rounded(p["x"]) ** 2).sum(), {"x": _X})

    def idiom(p: Any) -> Any:
        return ((p["x"] + jax.lax.stop_gradient(jnp.sign(p["x"]) - p["x"])) * _X[:1]).sum()

    yield _of_code("jax stop_gradient idiom", check_jax, idiom, {"x": _X})


# --- gradients through no staircase that are not 0 where the derivative is ----------------------------------


def flat_places() -> Iterator[Case]:
    """Yield gradients that are wrong where the loss is flat, although the loss is no staircase."""
    far = {"x": np.sign(_X) * (np.abs(_X) + 1.5)}
    yield _of_numpy(
        "clip without its mask",
        lambda p: float((np.clip(p["x"], -1, 1) ** 2).sum()),
        lambda p: {"x": 2 * np.clip(p["x"], -1, 1)},
        far,
    )
    below = {"x": -0.1 - np.abs(_X)}
    yield _of_numpy(
        "dead relu without its mask",
        lambda p: float((np.maximum(p["x"], 0) + 1).sum() ** 2),
        lambda p: {"x": np.full_like(p["x"], 48.0)},
        below,
    )
    yield _of_numpy(
        "an unused parameter",
        lambda p: float((p["w"] ** 2).sum()),
        lambda p: {"w": 2 * p["w"], "u": np.ones(5)},
        {"w": _W, "u": np.ones(5)},
    )
    yield _of_numpy(
        "maximum only",
        lambda p: float(p["x"].max() ** 2),
        lambda p: {"x": np.full_like(p["x"], 2 * p["x"].max())},
        {"x": _X},
    )
    yield _of_numpy(
        "relu6 without its mask",
        lambda p: float((np.clip(p["x"], 0, 6) * np.arange(24.0).reshape(6, 4)).sum()),
        lambda p: {"x": np.arange(24.0).reshape(6, 4)},
        {"x": 3 + 9 * np.sign(_X) + _X},
    )
    yield _of_numpy(
        "hinge without its mask",
        lambda p: float(np.maximum(0, 1 - p["x"]).sum() + 1),
        lambda p: {"x": np.full_like(p["x"], -1.0)},
        {"x": 1.5 + np.abs(_X)},
    )
    yield _of_numpy(
        "a steep sigmoid",
        lambda p: float((1 / (1 + np.exp(-np.clip(200 * p["x"], -500, 500)))).sum()),
        lambda p: {"x": np.ones_like(p["x"])},
        {"x": np.sign(_X) * (np.abs(_X) + 0.5)},
    )
    yield _of_numpy(
        "a branch on the data",
        lambda p: float((p["x"] ** 2).sum() if p["x"].sum() > 0 else (p["x"] ** 3).sum()),
        lambda p: {"x": 3 * p["x"]},
        {"x": _X},
    )
    yield _of_numpy(
        "sawtooth",
        lambda p: float(((p["x"] - np.floor(p["x"])) ** 2).sum()),
        lambda p: {"x": 2 * p["x"]},
        {"x": _X},
    )
    yield _of_numpy(
        "underflow",
        lambda p: float(np.exp(-800 * p["x"] ** 2).sum() + 1),
        lambda p: {"x": np.ones_like(p["x"])},
        {"x": 2 + np.abs(_X)},
    )


# --- symmetric ----------------------------------------------------------------------------------------------


def symmetric_in_code() -> Iterator[Case]:
    """Yield functions of torch and numpy that read one triangle, whose gradients are spread over both."""
    import torch

    from gradcheck_cli import check_torch

    a = {"a": torch.tensor(_spd(4, 9))}
    weights = torch.arange(1.0, 5.0, dtype=torch.float64)
    yield _of_code(
        "torch eigvalsh", check_torch, lambda a: (torch.linalg.eigvalsh(a) ** 2 * weights).sum(), a
    )
    yield _of_code(
        "torch eigvalsh, upper",
        check_torch,
        lambda a: (torch.linalg.eigvalsh(a, UPLO="U") ** 2 * weights).sum(),
        a,
    )
    yield _of_code("torch cholesky", check_torch, lambda a: torch.linalg.cholesky(a), a)
    yield _of_code(
        "torch logdet by cholesky",
        check_torch,
        lambda a: 2 * torch.linalg.cholesky(a).diagonal().log().sum(),
        a,
    )
    v = torch.tensor(_VECTOR)
    yield _of_code(
        "torch solve by cholesky",
        check_torch,
        lambda a: torch.cholesky_solve(v[:, None], torch.linalg.cholesky(a)),
        a,
    )
    both = {"a": torch.tensor(np.stack([_spd(3, 10), _spd(3, 11)]))}
    yield _of_code("torch cholesky, a batch", check_torch, lambda a: torch.linalg.cholesky(a), both)

    def eigen(p: Arrays) -> Arrays:
        values, vectors = np.linalg.eigh(p["A"])
        return {"A": vectors @ np.diag(3 * values**2 * np.arange(1, 5)) @ vectors.T}

    yield _of_numpy(
        "numpy eigvalsh",
        lambda p: float((np.linalg.eigvalsh(p["A"]) ** 3 * np.arange(1, 5)).sum()),
        eigen,
        {"A": _spd(4, 12)},
    )
    yield _of_numpy(
        "numpy logdet by cholesky",
        lambda p: float(2 * np.log(np.diag(np.linalg.cholesky(p["A"]))).sum()),
        lambda p: {"A": np.linalg.inv(p["A"])},
        {"A": _spd(5, 13)},
    )


# --- detached branches --------------------------------------------------------------------------------------


def detached() -> Iterator[Case]:
    import torch

    from gradcheck_cli import check_torch

    x, w = torch.tensor(_X), torch.tensor(_W)
    both = {"x": x.clone(), "w": w.clone()}
    yield _of_code("square with one factor detached", check_torch, lambda x: x * x.detach(), {"x": x.clone()})
    yield _of_code(
        "normalised by a detached mean",
        check_torch,
        lambda x: (x - x.mean(0).detach()) ** 3,
        {"x": x.clone()},
    )
    yield _of_code(
        "normalised by a detached norm",
        check_torch,
        lambda x: x / x.norm(dim=1, keepdim=True).detach(),
        {"x": x.clone()},
    )
    yield _of_code(
        "attention with detached weights",
        check_torch,
        lambda x, w: (x @ w.T).softmax(-1).detach() @ (x[:3] @ w.T),
        both,
    )
    yield _of_code(
        "gate with detached input",
        check_torch,
        lambda x, w: torch.sigmoid(x.detach() @ w.T).sum(1, keepdim=True) * x,
        both,
    )

    def without_grad(x: Any) -> Any:
        with torch.no_grad():
            scale = x.abs().amax()
        return (x / scale) ** 2

    yield _of_code("scale under no_grad", check_torch, without_grad, {"x": x.clone()})
    yield _of_code("data attribute", check_torch, lambda x: x.data.exp() * x, {"x": x.clone()})

    def recurrent(x: Any, w: Any) -> Any:
        h = torch.zeros(3, dtype=x.dtype)
        for row in x:
            h = torch.tanh(w @ row + h.detach())
        return h

    yield _of_code("truncated recurrence", check_torch, recurrent, both)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            h = torch.tanh(self.one(x))
            return self.two(h) + self.two(h.detach() ** 2)

    torch.manual_seed(1)
    yield _of_code("module with a detached branch", check_torch, Net().double(), x=_X)

    def loss(out: Any, y: Any) -> Any:
        return (torch.nn.functional.softplus(out) * out.detach().sigmoid()).sum()

    yield _of_code("detached in the loss", check_torch, torch.nn.Linear(4, 3).double(), x=_X, y=_Y, loss=loss)
    yield from _detached_in_jax()


def _detached_in_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    stop, p = jax.lax.stop_gradient, {"x": _X, "w": _W}
    yield _of_code("jax: square", check_jax, lambda p: (p["x"] * stop(p["x"])).sum(), {"x": _X})
    yield _of_code(
        "jax: compiled", check_jax, jax.jit(lambda p: jnp.tanh(p["x"] @ stop(p["w"]).T) * jnp.sum(p["w"])), p
    )
    yield _of_code(
        "jax: layer norm",
        check_jax,
        lambda p: (p["x"] - stop(p["x"].mean(1, keepdims=True))) / p["x"].std(1, keepdims=True),
        {"x": _X},
    )


# --- from the arrays ----------------------------------------------------------------------------------------


def _sum_of_both(name: str, loss: Callable[[Array], float], gradient: Callable[[Array], Array]) -> Case:
    """Return a loss of S = A + Aᵀ whose gradient is only that with respect to S."""
    at = {"A": _rng(20).normal(size=(4, 4)) + 4 * np.eye(4)}
    return _of_numpy(
        name, lambda p: loss(p["A"] + p["A"].T), lambda p: {"A": gradient(p["A"] + p["A"].T)}, at
    )


def half_sums() -> Iterator[Case]:
    """Yield further functions of x + xᵀ whose backward forgets the transpose."""
    batch = {"x": _rng(21).normal(size=(2, 3, 3))}
    yield _of_pair(
        "pair of tanh",
        lambda x: np.tanh(_mirrored_sum(x)),
        lambda d, x: (d / np.cosh(_mirrored_sum(x)) ** 2,),
        batch,
    )
    yield _of_pair(
        "pair of square", lambda x: _mirrored_sum(x) ** 2, lambda d, x: (2 * d * _mirrored_sum(x),), batch
    )
    import jax
    import torch

    from gradcheck_cli import check_jax, check_torch

    class Symmetrised(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x + x.transpose(-1, -2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    yield _of_code(
        "torch function of a sum",
        check_torch,
        lambda x: Symmetrised.apply(x) ** 3,
        {"x": torch.tensor(batch["x"])},
    )

    @jax.custom_vjp
    def symmetrised(x: Any) -> Any:
        return x + x.swapaxes(-1, -2)

    symmetrised.defvjp(lambda x: (symmetrised(x), None), lambda _, g: (g,))
    yield _of_code("jax custom_vjp of a sum", check_jax, lambda p: jax.numpy.sin(symmetrised(p["x"])), batch)


def _mirrored_sum(x: Array) -> Array:
    return x + np.swapaxes(x, -1, -2)


def tensors() -> Iterator[Case]:
    """Yield right functions of tensors of several shapes."""
    shapes = {"b": (7,), "w": (3, 4), "k": (2, 3, 3), "c": (2, 3, 4, 4), "q": (3, 3, 3), "t": (4, 4, 2)}
    for seed, name in enumerate(shapes):
        at = {name: _rng(seed).normal(size=shapes[name]), "other": _rng(50 + seed).normal(size=3)}
        weights = _rng(30 + seed).normal(size=shapes[name])

        def loss(p: Arrays, name: str = name, weights: Array = weights) -> float:
            return float((np.tanh(p[name]) * weights).sum() * (p["other"] ** 2).sum())

        def gradients(p: Arrays, name: str = name, weights: Array = weights) -> Arrays:
            size = (p["other"] ** 2).sum()
            of_other = 2 * p["other"] * (np.tanh(p[name]) * weights).sum()
            return {name: weights / np.cosh(p[name]) ** 2 * size, "other": of_other}

        yield _of_numpy(f"tensor {name}", loss, gradients, at)
        yield _of_pair(
            f"pair {name}",
            partial(_weighted_tanh, weights),
            partial(_weighted_tanh_backward, weights),
            at,
        )


def _weighted_tanh(weights: Array, x: Array, w: Array) -> Array:
    return np.tanh(x) * weights * w.sum()


def _weighted_tanh_backward(weights: Array, d: Array, x: Array, w: Array) -> tuple[Array, Array]:
    return d * weights / np.cosh(x) ** 2 * w.sum(), np.full(3, (d * np.tanh(x) * weights).sum())


def _first(change: Callable[[Array], Array | None]) -> Callable[[Arrays], Arrays]:
    """Return a change of the first tensor alone."""

    def changed(gradients: Arrays) -> Arrays:
        name = next(iter(gradients))
        wrong = change(gradients[name])
        return gradients if wrong is None else {**gradients, name: wrong}

    return changed


def _zero_slice(axis: int, which: slice) -> Callable[[Array], Array | None]:
    def change(g: Array) -> Array | None:
        if axis >= g.ndim or g.ndim == 2:
            return None
        wrong = g.copy()
        wrong[(slice(None),) * axis + (which,)] = 0.0
        return wrong if np.count_nonzero(wrong != g) > 1 else None

    return change


def _swap(one: int, other: int) -> Callable[[Array], Array | None]:
    def change(g: Array) -> Array | None:
        fits = g.ndim > max(one, other, 2) and g.shape[one] == g.shape[other]
        return np.swapaxes(g, one, other) if fits else None

    return change


# --- other mistakes -----------------------------------------------------------------------------------------


def _noise(g: Array) -> Array:
    return g * (1 + 0.01 * _rng(40).normal(size=g.shape))


def _one_off(g: Array) -> Array:
    wrong = g.copy()
    wrong.flat[g.size // 2] += 0.1 + abs(wrong.flat[g.size // 2])
    return wrong


def _zero_entries(g: Array) -> Array | None:
    if g.ndim == 1:
        return None  # any entries of a vector are slices
    return np.where(_rng(41).uniform(size=g.shape) < 0.4, 0.0, g)


OTHERS: Mapping[str, Callable[[Arrays], Arrays]] = {
    "factor": _each(lambda g: 1.3 * g),
    "half": _each(lambda g: 0.5 * g),
    "twice": _each(lambda g: 2.0 * g),
    "sign": _each(lambda g: -g),
    "noise": _first(_noise),
    "one entry": _first(_one_off),
    "absolute": _first(np.abs),
    "zero entries": _first(_zero_entries),
    "lower triangle": _first(lambda g: np.tril(g) if g.ndim == 2 else None),
    "upper triangle doubled": _first(lambda g: g + np.triu(g, 1) if g.ndim == 2 else None),
    "diagonal doubled": _first(
        lambda g: g + g * np.eye(len(g)) if g.ndim == 2 and g.shape[0] == g.shape[1] else None
    ),
    "reversed": _first(lambda g: g[::-1].copy()),
    "transposed": _first(lambda g: g.T.copy() if g.ndim == 2 and g.shape[0] == g.shape[1] else None),
    "a constant added": _first(lambda g: g + 0.3),
    "squared": _first(lambda g: g * np.abs(g)),
    "last row times 3": _first(
        lambda g: g * np.where(np.arange(len(g)) == len(g) - 1, 3.0, 1.0).reshape(-1, *[1] * (g.ndim - 1))
    ),
}


def wrong_rules() -> Iterator[Case]:
    """Yield torch and jax code that detaches without harm, and has a wrong derivative rule elsewhere."""
    import torch

    from gradcheck_cli import check_torch

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * ctx.saved_tensors[0] ** 2 * g

    def shifted(x: Any) -> Any:
        return Cube.apply((x - x.max(1, keepdim=True).values.detach()).softmax(1))

    def logged(x: Any) -> Any:
        with torch.no_grad():
            assert x.sum().isfinite()
        return Cube.apply(x).sum(1)

    def masked(x: Any) -> Any:
        return Cube.apply(x * (x.detach() > 0))

    def weighted(x: Any, w: Any) -> Any:
        return Cube.apply(x @ w.T) * torch.ones_like(x.detach()[:, :1])

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.out(Cube.apply(self.norm(x.detach())))

    x, w = torch.tensor(_X), torch.tensor(_W)
    yield _of_code("torch: shifted softmax", check_torch, shifted, {"x": x.clone()})
    yield _of_code("torch: logged", check_torch, logged, {"x": x.clone()})
    yield _of_code("torch: masked", check_torch, masked, {"x": x.clone()})
    yield _of_code("torch: weighted", check_torch, weighted, {"x": x.clone(), "w": w.clone()})
    torch.manual_seed(2)
    yield _of_code("torch: module", check_torch, Net().double(), x=_X)
    yield from _wrong_rules_of_jax()


def _wrong_rules_of_jax() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp

    from gradcheck_cli import check_jax

    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (2 * x**2 * g,))
    stop = jax.lax.stop_gradient
    yield _of_code("jax: softmax", check_jax, lambda p: cube(jax.nn.softmax(p["x"])), {"x": _X})
    yield _of_code(
        "jax: shifted", check_jax, lambda p: cube(jax.nn.softmax(p["x"] - stop(p["x"].max()))), {"x": _X}
    )
    yield _of_code(
        "jax: masked", check_jax, lambda p: cube(jnp.where(stop(p["x"]) > 0, p["x"], 0.0)), {"x": _X}
    )


# --- counted ------------------------------------------------------------------------------------------------

Plant = tuple[str, Case, Callable[[Arrays], Arrays]]


def plants() -> Iterator[Plant]:
    """Yield each pattern's name with a case and the change that plants the pattern."""
    yield from (("straight-through estimate", case, unchanged) for case in staircases())
    yield from (("right along symmetric moves", case, unchanged) for case in symmetric_in_code())
    for matrix in MATRICES:
        lower = matrix.of_lower_triangle().case()
        yield "right along symmetric moves", lower, _each(_symmetrised)
        if matrix.name in _NOT_SYMMETRIC:
            yield "right along symmetric moves", matrix.case(), _each(_symmetrised)
        yield "off-diagonal factor", matrix.case(), _each(_twice)
        yield "off-diagonal factor", lower, _each(_half_off_diagonal)
        if matrix.name in _NOT_SYMMETRIC:
            yield "half of a sum", _sum_of_both(matrix.name, matrix.loss, matrix.gradient), unchanged
    yield from (("half of a sum", case, unchanged) for case in half_sums())
    yield from (("detached branch", case, unchanged) for case in detached())
    for case in tensors():
        for k, which in enumerate((slice(-1, None), slice(0, 2), slice(-2, None))):
            yield "slice of zeros", case, _first(_zero_slice(k, which))
        for pair in ((1, 2), (2, 3), (0, 2), (0, 1)):
            yield "axes swapped", case, _first(_swap(*pair))


PATTERNS = (
    "straight-through estimate",
    "right along symmetric moves",
    "off-diagonal factor",
    "half of a sum",
    "detached branch",
    "axes swapped",
    "slice of zeros",
)


def others() -> Iterator[tuple[str, Case, Callable[[Arrays], Arrays]]]:
    """Yield other mistakes in the same functions."""
    rights = [m.case() for m in MATRICES] + [m.of_symmetric_part().case() for m in MATRICES]
    rights += [m.of_lower_triangle().case() for m in MATRICES] + list(tensors())
    yield from ((name, case, change) for case in rights for name, change in OTHERS.items())
    yield from (("flat", case, unchanged) for case in flat_places())
    yield from (("rule", case, unchanged) for case in wrong_rules())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=PATTERNS)
    only = parser.parse_args().only
    planted, first, wrong = Counter(), Counter(), Counter()
    for pattern, case, change in plants():
        if only not in (None, pattern):
            continue
        report = case.run(change)
        if report.passed:
            continue  # the change does not apply, or the gradient is symmetric anyway
        planted[pattern] += 1
        wrong[pattern] += report.verdict == "wrong"
        first[pattern] += named(report) == {pattern}
        if named(report) != {pattern}:
            print(f"{pattern} in {case.name}: {report.verdict}, {sorted(named(report)) or 'unknown'}")
    print(f"{'pattern':30} planted  wrong  named")
    for pattern in planted:
        print(f"{pattern:30} {planted[pattern]:7} {wrong[pattern]:6} {first[pattern]:6}")
    if only is None:
        _count_others()


def _count_others() -> None:
    total, false = 0, Counter()
    for name, case, change in others():
        report = case.run(change)
        if report.verdict != "wrong":
            continue
        total += 1
        for kind in named(report) & set(PATTERNS):
            false[kind] += 1
            print(f"{name} in {case.name}: named '{kind}'")
    print(f"{total} other mistakes, {sum(false.values())} with the name of a pattern")


if __name__ == "__main__":
    main()
