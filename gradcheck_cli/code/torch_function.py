"""A torch module as a function to check, with its loss weighted in one particular way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import ClassVar

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.code.evaluation import WideGradients
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import read_stack
from gradcheck_cli.code.sites import Sites
from gradcheck_cli.code.torch_attached import attached
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_modules import Modules
from gradcheck_cli.code.torch_runs import wide_gradients
from gradcheck_cli.code.torch_saved import constants_saved
from gradcheck_cli.code.torch_searched import Searched
from gradcheck_cli.code.torch_upstream import Upstream
from gradcheck_cli.types import Array

_WIDE_TYPES = ("torch.float64", "torch.complex128")
_MOVED = "with slightly changed parameters"
_STACKED = "under torch.func.vmap, which `vectorized` asks for"


@dataclass(frozen=True)
class TorchFunction:
    """A module as a `Function`, with its loss weighted in one particular way.

    parameters: the point at which the gradients are checked.
    upstream: the weights in the loss, and the layout of the gradient that backward starts from.
    loss: the author's loss, without weights.
    apart: the largest difference allowed between the results of two runs, relative to the largest entry.
    is_wide: whether the losses are known to be computed in float64 throughout.
    findings: faults found by running backward in other ways.
    before: the function of the loss L, if this object is g = ⟨∇L, v⟩; empty otherwise.
    other_modes: the same module with gradients from other modes of torch, by the name of the mode.
    others: the same module with other upstreams.
    searched: the sites found so far, which all upstreams share.
    """

    code: Callee
    graph: Graph
    parameters: Mapping[str, Array]
    upstream: Upstream
    loss: float
    apart: float
    remarks: tuple[str, ...]
    is_wide: bool
    vectorized: bool = False
    findings: tuple[Finding, ...] = ()
    before: tuple[TorchFunction, ...] = ()
    other_modes: Mapping[str, TorchFunction] = field(default_factory=dict)
    others: tuple[TorchFunction, ...] = ()
    searched: Searched = field(default_factory=Searched)

    takes_taps: ClassVar[bool] = False

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        return self.graph.kernels(self.parameters, self.upstream)

    @property
    def stands_alone(self) -> bool:
        return not self.graph.loss.is_own

    @property
    def loss_name(self) -> str:
        return self.graph.loss.name

    @property
    def origin(self) -> str:
        return f"torch {self.graph.loss.backward} of {self.code}"

    @property
    def weighted(self) -> str:
        told = [kernel.told for kernel in self.kernels]
        return " ".join(filter(None, [self.graph.loss.told, str(self.upstream), *told]))

    @property
    def samples(self) -> int | None:
        return None if self.graph.x is None or not self.graph.x.ndim else len(self.graph.x)

    @property
    def outputs(self) -> tuple[int, ...]:
        return self.graph.loss.outputs

    @property
    def terms(self) -> int:
        return len(self.upstream.weights.terms)

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            losses = self.graph.losses(parameters, self.upstream.weights)
        if len(losses) != self.terms:
            message = f"returns {len(losses)} loss terms, but returned {self.terms} in an earlier call"
            raise self.code.complain(message)
        return losses.astype(np.float64)

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        if not self.vectorized:
            return np.stack([self.losses(point) for point in points])
        with self.code.running(_STACKED):
            losses = self.graph.losses_at(points, self.upstream.weights)
        return read_stack(losses, (len(points), self.terms), self.code)

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with self.code.running(_MOVED):
            return self.graph.gradients(parameters, self.upstream)

    def sites(self, names: Sequence[str]) -> Sites:
        return self.searched.sites(self.graph.differenced, self.parameters, self.upstream.weights, names)

    def places(self, wrong: Collection[str], right: Collection[str]) -> tuple[str, ...]:
        """Return a sentence for each module whose backward pass is wrong; empty if none is found.

        If second derivatives are wrong, each sentence names a function that saves intermediate results.
        """
        if self.before:
            return self._constants_saved()
        root = self.graph.forward
        if self.kernels or not self.graph.loss.is_first or not isinstance(root, self.graph.torch.nn.Module):
            return ()
        modules = Modules(self.graph, root, self.parameters, self.upstream)
        with self.code.running("with its modules watched"):
            return tuple(modules.faults(wrong))

    def _constants_saved(self) -> tuple[str, ...]:
        run = partial(self.graph.gradients, self.parameters, self.upstream)
        with self.code.running("with its functions watched"):
            return tuple(constants_saved(self.graph.torch, run))

    def wide_gradients(self) -> WideGradients | None:
        """Return the gradients that backward computes in float64.

        Returns None if the module is in float64 anyway, cannot compute in float64, or has a reference.
        """
        if self.kernels or all(str(dtype) in _WIDE_TYPES for dtype in self.graph.types):
            return None
        return wide_gradients(self.code, self.graph, self.parameters, self.upstream)

    @property
    def calls(self) -> tuple[Call, ...]:
        return ()

    def attached(self) -> Iterable[Attached]:
        run = partial(self.graph.gradients, self.parameters, self.upstream)
        return attached(self.graph.torch, self.code, run)
