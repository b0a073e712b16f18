"""Python functions that compute in torch, in a fixed type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kinds.function import Array, Arrays, Draw, chance, normal, one_of, weights, whole
from kinds.subjects import RIGHT, Mistake, Result, checkable, checked

Tensor = torch.Tensor


@dataclass(frozen=True)
class Inside:
    """A Python function that computes in one of torch's types.

    forward: (parameters, slip) → losses.
    """

    parameters: Arrays
    forward: Callable[[dict[str, Tensor], torch.dtype, str], Tensor]
    dtype: torch.dtype
    terms: bool

    def losses(self, parameters: Arrays) -> Array:
        leaves = {name: torch.tensor(value) for name, value in parameters.items()}
        return self.forward(leaves, torch.float64, "").detach().numpy()

    def gradients(self, mistake: Mistake) -> Arrays:
        return self._at(mistake, self.dtype)

    def exact(self) -> Arrays:
        return self._at(RIGHT, torch.float64)

    def _at(self, mistake: Mistake, dtype: torch.dtype) -> Arrays:
        gradients = self.evaluate(self.parameters, mistake, dtype)[1]
        return {name: g.double().numpy() for name, g in gradients.items()}

    def check(self, mistake: Mistake, fast: bool) -> Result:
        return checked(lambda p: self.evaluate(p, mistake, self.dtype), self.parameters, fast)

    def evaluate(self, parameters: Arrays, mistake: Mistake, dtype: torch.dtype) -> tuple[Any, Any]:
        leaves = {n: torch.tensor(v, dtype=dtype, requires_grad=True) for n, v in parameters.items()}
        losses = self.forward(leaves, dtype, mistake.slip)
        total = losses.sum()
        total.backward()
        gradients = {n: torch.zeros_like(t) if t.grad is None else t.grad for n, t in leaves.items()}
        if mistake.tensor:
            changed = mistake.change(gradients[mistake.tensor].double().numpy())
            gradients[mistake.tensor] = torch.from_numpy(np.ascontiguousarray(changed)).to(dtype)
        return (losses if self.terms else total).detach(), gradients


INSIDE_SLIPS = ("2 forgotten", "stopped at the first layer", "output not differentiated", "1/N twice")


def _network(p: dict[str, Tensor], d: dict[str, Tensor], act: Any, loss: str, slip: str) -> Tensor:
    first = d["x"] @ p["w"].T + p["b"]
    a = act(first.detach() if slip == "stopped at the first layer" else first)
    z = a @ p["v"].T
    z = _backwards(z, 0.5) if slip == "2 forgotten" else z
    z = _backwards(z, 1.0 / len(z)) if slip == "1/N twice" else z
    if loss == "squares":
        out = torch.tanh(z)
        out = z + (out - z).detach() if slip == "output not differentiated" else out
        return (out - d["y"]).square().sum(1) / len(z)
    log_p = torch.log_softmax(z, 1)
    return -(log_p * d["hot"]).sum(1) / len(z)


def _backwards(z: Tensor, factor: float) -> Tensor:
    """Return z, with its gradient multiplied by a factor in backward."""
    return z.detach() + factor * (z - z.detach())


def inside(dtype: torch.dtype) -> Callable[[Draw], Inside]:
    def drawn(rng: Draw) -> Inside:
        n, inputs, units, outputs = whole(rng, 2, 8), whole(rng, 2, 5), whole(rng, 2, 5), whole(rng, 2, 3)
        act, loss = one_of(rng, (torch.tanh, torch.relu, torch.sigmoid)), one_of(rng, ("squares", "entropy"))
        data = {
            "x": normal(rng, n, inputs),
            "y": normal(rng, n, outputs),
            "hot": np.eye(outputs)[rng.integers(outputs, size=n)],
        }
        parameters = {
            "w": weights(rng, units, inputs),
            "b": normal(rng, units, scale=0.3),
            "v": weights(rng, outputs, units),
        }

        def forward(p: dict[str, Tensor], at: torch.dtype, slip: str) -> Tensor:
            d = {name: torch.tensor(value, dtype=at) for name, value in data.items()}
            return _network(p, d, act, loss, slip)

        subject = Inside(parameters, forward, dtype, chance(rng, 0.5))
        return subject if checkable(subject) else drawn(rng)

    return drawn
