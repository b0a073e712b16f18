"""An embedding, like torch.nn.Embedding: every token v of x is replaced by row v of a weight.

    ∂L/∂w[v] = Σ ∂L/∂out over all positions whose token is v

Tokens are whole numbers, so ∂L/∂x does not exist. The row of `padding_idx` counts as a constant, as in
PyTorch: its gradient is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Factors, Picked
from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.step import Arrays, Inputs, Known, Step, UnfitError, Upstream
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Embedding(Step):
    """An embedding of tokens as vectors of length `width`.

    The shape goes from (…, N, *positions) to (…, N, *positions, width), for N samples. The parameter is
    `weight`, (tokens, width).
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None
    channel: int = -1
    formulas = Formulas(
        "out",
        "{weight}[{x}]",
        (Argument("x", "0", "0"),),
        {
            "weight": Argument(
                "w", "1 where x is v, in row v", "Σ {g} over the positions where x is v, in row v"
            )
        },
        "with row v of w for every token v of x",
    )

    @classmethod
    def of(cls, features: Shape, **options: Any) -> Embedding:
        tokens, padding = options["embedding"], options["padding_idx"]
        if padding is not None and padding >= tokens:
            raise UnfitError(f"padding_idx is {padding}; tokens are 0 to {tokens - 1}", "padding_idx")
        return cls(tokens, options["embedding_dim"], padding)

    @property
    def tokens(self) -> int:  # type: ignore[override]
        return self.num_embeddings

    @property
    def label(self) -> str:
        return f"embedding{self.embedding_dim}"

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {"weight": (self.tokens, self.embedding_dim)}

    def constant(self, name: str) -> Array | None:
        if self.padding_idx is None:
            return None
        rows = np.arange(self.tokens)[:, None] == self.padding_idx
        return np.broadcast_to(rows, self.shapes["weight"])

    def out(self, *features: Shape) -> Shape:
        return (*features[0], self.embedding_dim)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        picked: Array = p["weight"][self._tokens(inputs[0])]
        return picked

    def _tokens(self, x: Array) -> Array:
        return x.real.astype(np.intp)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (np.zeros_like(inputs[0]),), {"weight": self._added(inputs[0], upstream)}

    def _added(self, x: Array, upstream: Array) -> Array:
        """Return ∂L/∂w: for each token, the sum of ∂L/∂out over the positions at which the token occurs."""
        total = np.zeros(self.shapes["weight"], upstream.dtype)
        np.add.at(total, self._tokens(x), upstream)
        if self.padding_idx is not None:
            total[self.padding_idx] = 0.0
        return total

    def error(
        self, p: Arrays, inputs: Inputs, output: Array, errors: Inputs, arithmetic: Arithmetic
    ) -> Array:
        held: Array = arithmetic.input_eps * np.abs(output)
        return held

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (x,), nothing = known.inputs, np.zeros_like(known.inputs[0])
        terms, total = self._added(x, np.abs(upstream.value)), self._added(x, upstream.value)
        bound = self._added(x, upstream.error) + arithmetic.summed(terms, total, x.size) + arithmetic.tiny
        return (Upstream(nothing, nothing, nothing),), {"weight": bound}

    def factors(self, name: str, inputs: Inputs) -> Factors | None:
        tokens = self._tokens(inputs[0]).reshape(len(inputs[0]), -1).T
        picked = np.where(tokens == self.padding_idx, -1, tokens) if self.padding_idx is not None else tokens
        return Picked(picked, self.shapes["weight"])

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        return (np.asarray(above.any(axis=-1)),)
