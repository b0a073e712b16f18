"""Rotary positional embedding: pair i of token t's d features is rotated by t θᵢ, with θᵢ = base^(−2i/d).

    out₁ = x₁ cos − x₂ sin        out₂ = x₁ sin + x₂ cos
    ∂L/∂x is ∂L/∂out rotated back by −t θᵢ, since the transpose of a rotation is its inverse

(J. Su et al., "RoFormer: Enhanced transformer with rotary position embedding", 2021.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.step import Inputs, UnfitError
from gradcheck_cli.network.steps.linear import Linear, fixed
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class Rotary(Linear):
    """Rotate pairs of the d features of each token in x, (…, tokens, d), with d even.

    cos, sin: the cosines and sines of the angles, (tokens, d / 2).
    back: the sign of x₂ sin in out₁, which is −1 in a rotation.
    interleaved: whether pairs are (0, 1), (2, 3), … as in RoFormer, or (0, d/2), (1, d/2 + 1), … as in LLaMA.
    """

    cos: Array
    sin: Array
    interleaved: bool = False
    back: float = -1.0
    exact = False
    formulas = Formulas(
        "out",
        "R {x}",
        (Argument("x", "R", "Rᵀ {g}"),),
        where="with R a rotation by the angle of each position",
    )

    @classmethod
    def of_angles(cls, tokens: int, d: int, base: float = 10000.0, interleaved: bool = False) -> Rotary:
        """Return the rotation of pair i of token t by the angle t · base^(−2i/d), with t counted from 0.

        d: the number of features of each token.
        """
        angles = np.arange(tokens)[:, None] * base ** (-2.0 * np.arange(d // 2) / d)
        return cls(np.cos(angles), np.sin(angles), interleaved)

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Rotary:
        if len(features) < 2 or features[-1] % 2:
            needed = "samples of shape [tokens, features] with an even number of features"
            message = f"a rotation needs {needed}; it gets {list(features)}"
            raise UnfitError(
                message,
                "rotary",
                "it rotates pairs of features by an angle that depends on the token's position",
            )
        tokens, d = features[-2:]
        return cls.of_angles(tokens, d, options["base"], options["interleaved"])

    @property
    def label(self) -> str:
        return "rotary"

    @property
    def absolute(self) -> Self:
        return type(self)(np.abs(self.cos), np.abs(self.sin), self.interleaved, 1.0)

    def counts(self, features: tuple[Shape, ...]) -> tuple[int, int]:
        return 2, 2

    def _halves(self, x: Array) -> tuple[Array, Array]:
        """Return two writable views of x: the first elements of all pairs, and the second elements."""
        half = x.shape[-1] // 2
        return (x[..., ::2], x[..., 1::2]) if self.interleaved else (x[..., :half], x[..., half:])

    def _turned(self, x: Array, first: float, second: float) -> Array:
        turned = np.empty_like(x)
        (one, other), (to_one, to_other) = self._halves(x), self._halves(turned)
        cos, sin = fixed(self.cos, x), fixed(self.sin, x)
        to_one[...] = one * cos + first * (other * sin)
        to_other[...] = second * (one * sin) + other * cos
        return turned

    def apply(self, *inputs: Array) -> Array:
        return self._turned(inputs[0], self.back, 1.0)

    def adjoint(self, delta: Array, features: tuple[Shape, ...]) -> Inputs:
        return (self._turned(delta, 1.0, self.back),)
