"""Losses of matrices: of all entries, of one triangle, or of the sum with the transpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from planted_patterns.case import Array, Arrays, Case, drawn_by, of_code, of_numpy, of_pair


def spd(n: int, seed: int) -> Array:
    half = drawn_by(seed).normal(size=(n, n))
    whole = half @ half.T + n * np.eye(n)
    return 0.5 * (whole + whole.T)


VECTOR, SQUARE = drawn_by(1).normal(size=4), drawn_by(2).normal(size=(4, 4))


@dataclass(frozen=True)
class Matrix:
    """A loss of one matrix A that depends on all of its entries, with its gradient."""

    name: str
    loss: Callable[[Array], float]
    gradient: Callable[[Array], Array]

    def case(self, n: int = 4, seed: int = 3) -> Case:
        return of_numpy(
            self.name,
            lambda p: self.loss(p["A"]),
            lambda p: {"A": self.gradient(p["A"])},
            {"A": spd(n, seed)},
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
    Matrix("trace of A B", lambda a: float(np.trace(a @ SQUARE)), lambda a: SQUARE.T),
    Matrix(
        "quadratic form",
        lambda a: float(VECTOR @ a @ VECTOR) ** 2,
        lambda a: 2 * float(VECTOR @ a @ VECTOR) * np.outer(VECTOR, VECTOR),
    ),
    Matrix(
        "Mahalanobis",
        lambda a: float(VECTOR @ np.linalg.solve(a, VECTOR)),
        lambda a: -np.outer(np.linalg.solve(a.T, VECTOR), np.linalg.solve(a, VECTOR)),
    ),
    Matrix("distance", lambda a: float(((a - SQUARE) ** 2).sum()), lambda a: 2 * (a - SQUARE)),
    Matrix(
        "trace of A A B", lambda a: float(np.trace(a @ a @ SQUARE)), lambda a: (a @ SQUARE + SQUARE @ a).T
    ),
    Matrix(
        "sum of tanh",
        lambda a: float((np.tanh(0.1 * a) * SQUARE).sum()),
        lambda a: 0.1 * SQUARE / np.cosh(0.1 * a) ** 2,
    ),
    Matrix(
        "row sums",
        lambda a: float(a.sum(axis=1) ** 3 @ VECTOR),
        lambda a: np.repeat((3 * a.sum(axis=1) ** 2 * VECTOR)[:, None], 4, axis=1),
    ),
    Matrix(
        "softmax of rows",
        lambda a: float(np.log(np.exp(a).sum(axis=1)) @ VECTOR),
        lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True) * VECTOR[:, None],
    ),
    Matrix(
        "Gaussian likelihood",
        lambda a: float(np.linalg.slogdet(a)[1] + VECTOR @ np.linalg.solve(a, VECTOR)),
        lambda a: np.linalg.inv(a).T - np.outer(np.linalg.solve(a.T, VECTOR), np.linalg.solve(a, VECTOR)),
    ),
)


NOT_SYMMETRIC = [
    matrix
    for matrix in MATRICES
    if matrix.name
    in ("trace of A B", "distance", "trace of A A B", "sum of tanh", "row sums", "softmax of rows")
]
"""The losses whose gradient is not symmetric even if A is."""


def symmetrised(g: Array) -> Array:
    return 0.5 * (g + g.T)


def twice(g: Array) -> Array:
    return g + g.T - np.diag(np.diag(g))


def half_off_diagonal(g: Array) -> Array:
    return 0.5 * (g + np.diag(np.diag(g)))


def symmetric_in_code() -> Iterator[Case]:
    """Yield functions of torch and numpy that read one triangle, whose gradients are spread over both."""
    import torch

    from gradcheck_cli import check_torch

    a = {"a": torch.tensor(spd(4, 9))}
    weights = torch.arange(1.0, 5.0, dtype=torch.float64)
    yield of_code("torch eigvalsh", check_torch, lambda a: (torch.linalg.eigvalsh(a) ** 2 * weights).sum(), a)
    yield of_code(
        "torch eigvalsh, upper",
        check_torch,
        lambda a: (torch.linalg.eigvalsh(a, UPLO="U") ** 2 * weights).sum(),
        a,
    )
    yield of_code("torch cholesky", check_torch, lambda a: torch.linalg.cholesky(a), a)
    yield of_code(
        "torch logdet by cholesky",
        check_torch,
        lambda a: 2 * torch.linalg.cholesky(a).diagonal().log().sum(),
        a,
    )
    v = torch.tensor(VECTOR)
    yield of_code(
        "torch solve by cholesky",
        check_torch,
        lambda a: torch.cholesky_solve(v[:, None], torch.linalg.cholesky(a)),
        a,
    )
    both = {"a": torch.tensor(np.stack([spd(3, 10), spd(3, 11)]))}
    yield of_code("torch cholesky, a batch", check_torch, lambda a: torch.linalg.cholesky(a), both)

    def eigen(p: Arrays) -> Arrays:
        values, vectors = np.linalg.eigh(p["A"])
        return {"A": vectors @ np.diag(3 * values**2 * np.arange(1, 5)) @ vectors.T}

    yield of_numpy(
        "numpy eigvalsh",
        lambda p: float((np.linalg.eigvalsh(p["A"]) ** 3 * np.arange(1, 5)).sum()),
        eigen,
        {"A": spd(4, 12)},
    )
    yield of_numpy(
        "numpy logdet by cholesky",
        lambda p: float(2 * np.log(np.diag(np.linalg.cholesky(p["A"]))).sum()),
        lambda p: {"A": np.linalg.inv(p["A"])},
        {"A": spd(5, 13)},
    )


def sum_of_both(matrix: Matrix) -> Case:
    """Return a loss of S = A + Aᵀ whose gradient is only that with respect to S."""
    at = {"A": drawn_by(20).normal(size=(4, 4)) + 4 * np.eye(4)}
    loss, gradient = matrix.loss, matrix.gradient
    return of_numpy(
        f"{matrix.name} of a sum",
        lambda p: loss(p["A"] + p["A"].T),
        lambda p: {"A": gradient(p["A"] + p["A"].T)},
        at,
    )


def half_sums() -> Iterator[Case]:
    """Yield further functions of x + xᵀ whose backward forgets the transpose."""
    batch = {"x": drawn_by(21).normal(size=(2, 3, 3))}
    yield of_pair(
        "pair of tanh",
        lambda x: np.tanh(_mirrored_sum(x)),
        lambda d, x: (d / np.cosh(_mirrored_sum(x)) ** 2,),
        batch,
    )
    yield of_pair(
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

    yield of_code(
        "torch function of a sum",
        check_torch,
        lambda x: Symmetrised.apply(x) ** 3,
        {"x": torch.tensor(batch["x"])},
    )

    @jax.custom_vjp
    def symmetrised(x: Any) -> Any:
        return x + x.swapaxes(-1, -2)

    symmetrised.defvjp(lambda x: (symmetrised(x), None), lambda _, g: (g,))
    yield of_code("jax custom_vjp of a sum", check_jax, lambda p: jax.numpy.sin(symmetrised(p["x"])), batch)


def _mirrored_sum(x: Array) -> Array:
    return x + np.swapaxes(x, -1, -2)
