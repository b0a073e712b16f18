"""Find the module whose backward pass is wrong, by perturbing the inputs and outputs of every module.

Each module receives the gradient ∂L/∂out and passes on the gradient ∂L/∂in. Both gradients are compared with
differences of the loss: the output is perturbed to check ∂L/∂out, and the input to check ∂L/∂in. If the first
gradient is right and the second is wrong, the fault lies inside the module. No table of mistakes is needed.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_upstream import Upstream
from gradcheck_cli.types import Array

Tensor = Any
Module = Any

_DIRECTIONS = 3
_STEP = 2.0**-10
"""The step along a direction, relative to the size of the tensor's entries."""

_RIGHT, _WRONG = 3.0, 100.0
"""A gradient is right if its error is at most `_RIGHT`, and wrong if its error is above `_WRONG`.

Errors are in units of the tolerance. Between the two bounds, a gradient counts as neither, so that a fault is
never blamed on the module below it.
"""

_TOLERANCE, _ROUNDINGS, _BARS = 1e-6, 64.0, 3.0
_MOST_RUNS = 4000
"""The largest number of forward passes that the search may take."""


class Slot(NamedTuple):
    """A tensor that enters or leaves a module.

    module: the module's name.
    call: the index of the call of the module.
    side: "in" or "out".
    number: the index of the tensor on that side.
    """

    module: str
    call: int
    side: str
    number: int


@dataclass
class _Hooks:
    """Hooks that call `visit` on every tensor that enters or leaves a module."""

    torch: Any
    root: Module
    visit: Callable[[Slot, Tensor], Tensor]
    calls: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def attached(self) -> Iterator[None]:
        handles = []
        for name, module in self.root.named_modules():
            handles.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, name: str) -> Callable[..., Any]:
        def hook(module: Module, args: Any, kwargs: Any) -> Any:
            self.calls[name] = self.calls.get(name, -1) + 1
            return self._visited(name, "in", (args, kwargs))

        return hook

    def _after(self, name: str) -> Callable[..., Any]:
        return lambda module, args, kwargs, output: self._visited(name, "out", output)

    def _visited(self, name: str, side: str, value: Any) -> Any:
        leaves, tree = self.torch.utils._pytree.tree_flatten(value)
        visited = [
            self.visit(Slot(name, self.calls[name], side, i), leaf) if self._is_float(leaf) else leaf
            for i, leaf in enumerate(leaves)
        ]
        return self.torch.utils._pytree.tree_unflatten(visited, tree)

    def _is_float(self, leaf: Any) -> bool:
        return (
            isinstance(leaf, self.torch.Tensor)
            and leaf.is_floating_point()
            and leaf.layout == self.torch.strided
            and leaf.numel() > 0
        )


@dataclass
class Modules:
    """The modules of a graph, and the gradients that backward passes through them.

    root: the module that contains all others.
    upstream: the weights in the loss that is checked.
    received: the gradient at every slot that backward reached.
    values: the tensors at these slots.
    runs: the number of forward passes so far.
    known: the error of the gradient at every slot where it has been measured.
    """

    graph: Graph
    root: Module
    point: Mapping[str, Array]
    upstream: Upstream
    received: dict[Slot, Array] = field(default_factory=dict)
    values: dict[Slot, Array] = field(default_factory=dict)
    runs: int = 0
    known: dict[Slot, float] = field(default_factory=dict)

    def faults(self, wrong: Collection[str]) -> Iterator[str]:
        """Yield a sentence for each innermost module whose backward pass is wrong.

        wrong: the names of the parameters whose gradients are wrong.
        """
        self._run_backward()
        own = self._owners(wrong)
        blamed = [name for name in self._names() if self._is_at_fault(name, own.get(name, ()))]
        for name in blamed:
            if not any(other != name and _is_inside(other, name) for other in blamed):
                yield self._sentence(name, own.get(name, ()))

    # --- the gradients that backward passes on ------------------------------------------------------------

    def _run_backward(self) -> None:
        def watch(slot: Slot, tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            passed = tensor.clone()
            self.values[slot] = plain(passed).astype(np.float64)

            def arrived(gradient: Tensor) -> None:
                self.received[slot] = self.received.get(slot, 0.0) + plain(gradient.to_dense()).astype(
                    np.float64
                )

            passed.register_hook(arrived)
            return passed

        with _Hooks(self.graph.torch, self.root, watch).attached():
            self.graph.gradients(self.point, self.upstream)

    def _owners(self, wrong: Collection[str]) -> dict[str, list[str]]:
        """Return the parameters with wrong gradients, by the name of the module that uses them.

        That module is the innermost one that contains the parameter and is called. For instance, torch's
        attention never calls its `out_proj`.
        """
        owners: dict[str, list[str]] = {}
        called = {*self._names(), ""}
        for leaf in self.graph.leaves:
            if {leaf.called, f"{leaf.called}.real", f"{leaf.called}.imag"} & set(wrong):
                module = leaf.name.rpartition(".")[0]
                while module not in called:
                    module = module.rpartition(".")[0]
                owners.setdefault(module, []).append(leaf.name.removeprefix(f"{module}."))
        return owners

    def _names(self) -> Sequence[str]:
        return list(dict.fromkeys(slot.module for slot in self.received))

    # --- differences at a slot ----------------------------------------------------------------------------

    def _is_at_fault(self, name: str, parameters: Sequence[str]) -> bool:
        """Return whether a module receives the right gradients but passes on a wrong one.

        parameters: the module's own parameters whose gradients are wrong.
        """
        suspect = bool(parameters) or self._worst(name, "in") > _WRONG or self._breaks_between(name)
        return suspect and 0.0 <= self._worst(name, "out") <= _RIGHT

    def _breaks_between(self, name: str) -> bool:
        """Return whether this module itself passes a wrong gradient to one of its submodules.

        That is so if some submodule receives a wrong gradient, and no other submodule can be the cause.
        """
        inside = [each for each in self._names() if each and each.rpartition(".")[0] == name]
        broken = [each for each in inside if self._worst(each, "out") > _WRONG]
        return bool(broken) and all(each in broken or self._worst(each, "in") <= _RIGHT for each in inside)

    def _worst(self, name: str, side: str) -> float:
        """Return the largest error of the gradients on one side of a module; −1 if there are none."""
        slots = [slot for slot in self.received if (slot.module, slot.side) == (name, side)]
        return float(np.max([self._off(slot) for slot in slots])) if slots else -1.0

    def _off(self, slot: Slot) -> float:
        if slot not in self.known:
            self.known[slot] = self._measured(slot)
        return self.known[slot]

    def _measured(self, slot: Slot) -> float:
        """Return how far a slot's gradient is from differences of the loss, in units of the tolerance.

        If the comparison would take too many runs, the result is NaN, which counts as neither right nor
        wrong.
        """
        gradient, value = self.received[slot], self.values[slot]
        size = float(np.sqrt(np.mean(np.square(value)))) or 1.0
        least = (_TOLERANCE + _ROUNDINGS * self.graph.eps) * float(np.linalg.norm(gradient))
        worst = 0.0
        for seed in range(_DIRECTIONS):
            direction = np.random.default_rng(seed).choice([-1.0, 1.0], gradient.shape)
            slope, error = self._slope(slot, direction, size * _STEP)
            tolerance = least + _BARS * error
            if not tolerance:
                continue
            worst = max(worst, abs(float((gradient * direction).sum()) - slope) / tolerance)
        return worst if self.runs <= _MOST_RUNS else np.nan

    def _slope(self, slot: Slot, direction: Array, step: float) -> tuple[float, float]:
        """Return the derivative of the loss at a slot along a direction, and an estimate of its error."""
        if self.runs > _MOST_RUNS:
            return np.nan, np.nan
        at = {k: self._loss(slot, k * step * direction) for k in (-4, -2, -1, 1, 2, 4)}
        one, two, four = ((at[k] - at[-k]) / (2.0 * k * step) for k in (1, 2, 4))
        better, coarse = (4.0 * one - two) / 3.0, (4.0 * two - four) / 3.0
        noise = np.finfo(np.float64).eps * abs(at[1]) / step
        return float(better), float(abs(better - coarse) + 16.0 * noise)

    def _loss(self, slot: Slot, shift: Array) -> float:
        self.runs += 1

        def move(at: Slot, tensor: Tensor) -> Tensor:
            return tensor + tensor.new_tensor(shift) if at == slot else tensor

        with _Hooks(self.graph.torch, self.root, move).attached():
            return float(self.graph.losses(self.point, self.upstream.weights).astype(np.float64).sum())

    # --- in words -----------------------------------------------------------------------------------------

    def _sentence(self, name: str, parameters: Sequence[str]) -> str:
        module = dict(self.root.named_modules())[name]
        called = f"module '{name}'" if name else "the module"
        has_modules = any(True for _ in module.children())
        inside = ", outside its submodules," if has_modules else ""
        passed = f"the gradient that it passes on{' to its submodules' * has_modules}"
        what = f"the gradient of its {parameters[0]}" if parameters else passed
        kind = f"{type(module).__name__}{_line_of(type(module), self.graph.code.file)}"
        wrong = f"it receives the right gradient, but {what} is wrong"
        return f"the backward pass of {called} ({kind}){inside} is wrong: {wrong}"


def _is_inside(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.") if outer else bool(name)


def _line_of(kind: type, file: os.PathLike[str]) -> str:
    """Return the line of a class that the user wrote, such as ``, net.py:12``; empty for library classes."""
    try:
        source, line = inspect.getsourcefile(kind), inspect.getsourcelines(kind)[1]
    except (TypeError, OSError):
        return ""
    folder = os.path.dirname(os.path.abspath(file))
    return (
        f", {os.path.basename(source)}:{line}"
        if source and os.path.abspath(source).startswith(folder)
        else ""
    )
