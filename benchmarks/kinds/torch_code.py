"""Torch subjects: a module and a loss, which a spec names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import nn

from gradcheck_cli import Spec, check
from kinds.function import Array, Arrays, Draw, one_of, whole
from kinds.subjects import RIGHT, Mistake, Result, judged

Tensor = torch.Tensor

HANDED: list[Callable[[], Any]] = []
"""Functions that build modules; `build` of `as_code.py` calls the last one."""


@dataclass(frozen=True)
class Module:
    """A module that takes no data, and a loss.

    build: slip → a new module with random parameters.
    loss: output → the terms.
    """

    build: Callable[[str], nn.Module]
    loss: Callable[[Tensor], Tensor]
    dtype: torch.dtype

    @property
    def parameters(self) -> Arrays:
        """Return the parameters, with complex numbers as pairs of real numbers."""
        module = self._module("", self.dtype)
        return {name: _pairs(p.detach()).astype(np.float64) for name, p in module.named_parameters()}

    def losses(self, parameters: Arrays) -> Array:
        module = self._module("", torch.float64)
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(_like(parameters[name], p))
            return self.loss(module()).reshape(-1).numpy()

    def gradients(self, mistake: Mistake) -> Arrays:
        return self._gradients(mistake, self.dtype)

    def exact(self) -> Arrays:
        return self._gradients(RIGHT, torch.float64)

    def check(self, mistake: Mistake, fast: bool) -> Result:
        calls = 0

        def loss(output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return self.loss(output)

        HANDED.append(lambda: (_planted(self._module(mistake.slip, self.dtype), mistake), loss))
        code = str(Path(__file__).with_name("as_code.py"))
        spec = {"gradients": {"torch": f"{code}:build"}, "check": {"fast": fast}}
        start = process_time()
        verdict, told = judged(lambda: check(Spec.model_validate(spec)))
        HANDED.pop()
        entries = sum(value.size for value in self.parameters.values())
        return Result(verdict, calls, entries, process_time() - start, told)

    def _module(self, slip: str, dtype: torch.dtype) -> nn.Module:
        return _widened(self.build(slip), dtype)

    def _gradients(self, mistake: Mistake, dtype: torch.dtype) -> Arrays:
        """Return the gradients of randomly weighted terms.

        A plain sum would hide a backward that ignores its upstream gradient.
        """
        module = _planted(self._module(mistake.slip, dtype), mistake)
        terms = self.loss(module()).reshape(-1)
        upstream = torch.linspace(0.7, 1.6, len(terms), dtype=terms.dtype)
        (terms * upstream).sum().backward()
        return {
            name: np.zeros(_pairs(p.detach()).shape) if p.grad is None else _pairs(p.grad)
            for name, p in module.named_parameters()
        }


def _widened(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert the module's floating-point tensors to dtype, and complex ones to that precision."""
    pair = {torch.float64: torch.complex128, torch.float32: torch.complex64}[dtype]
    with torch.no_grad():
        for t in (*module.parameters(), *module.buffers()):
            t.data = t.data.to(pair if t.is_complex() else dtype) if not _whole(t) else t.data
    return module


def _whole(t: Tensor) -> bool:
    return not (t.is_complex() or t.is_floating_point())


def _planted(module: nn.Module, mistake: Mistake) -> nn.Module:
    """Return the module with a hook that changes the gradient of one tensor."""

    def hook(grad: Tensor) -> Tensor:
        return _like(mistake.change(_pairs(grad)), grad)

    for name, p in module.named_parameters():
        if name == mistake.tensor:
            p.register_hook(hook)
    return module


def _pairs(t: Tensor) -> Array:
    return torch.view_as_real(t.resolve_conj()).numpy() if t.is_complex() else t.numpy()


def _like(array: Array, t: Tensor) -> Tensor:
    made = torch.from_numpy(np.array(array, order="C"))
    return (torch.view_as_complex(made) if t.is_complex() else made).to(t.dtype)


# --- how they are drawn -------------------------------------------------------------------------------------


def _squares(out: Tensor) -> Tensor:
    power = out.real**2 + out.imag**2 if out.is_complex() else (out + 0.3) ** 2
    return torch.log1p(power).flatten(1).sum(1)


def _sums(out: Tensor) -> Tensor:
    return out.sum(1)


def _sum(out: Tensor) -> Tensor:
    return out.sum()


def in_torch(
    module: Callable[[Draw, str], nn.Module],
    dtype: torch.dtype,
    losses: tuple[Callable[[Tensor], Tensor], ...],
) -> Callable[[Draw], Module]:
    def drawn(rng: Draw) -> Module:
        seed, loss = whole(rng, 0, 2**31 - 1), one_of(rng, losses)
        return Module(lambda slip: module(np.random.default_rng(seed), slip), loss, dtype)

    return drawn


SQUARES, SUMS = (_squares, lambda out: _squares(out).sum()), (_sum, _sums)
