"""A kernel whose loss is differenced through a reference: the same forward pass, computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.function import Function
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Taps, Watching
from gradcheck_cli.types import Array


class Reference(Protocol):
    """A forward pass in float64, with the same loss as the kernel. `str()` returns its name."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms in float64, (S,)."""

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        """Return a sentence for each place between taps where a fault lies, as in `Function`."""


@dataclass(frozen=True)
class Referenced:
    """A kernel as a `Function`: its gradients are its own, and its losses are those of a reference.

    kernels: the kernel in its own type, as a tuple of one.
    others: the same kernel with other upstreams.
    """

    function: Function
    reference: Reference
    kernels: tuple[Kernel, ...]
    others: tuple[Referenced, ...] = ()

    before: ClassVar[tuple[Function, ...]] = ()
    other_modes: ClassVar[Mapping[str, Function]] = {}
    takes_taps: ClassVar[bool] = True
    vectorized: ClassVar[bool] = False
    is_wide: ClassVar[bool] = False  # the reference chooses its types

    @property
    def origin(self) -> str:
        return self.function.origin

    @property
    def parameters(self) -> Mapping[str, Array]:
        return self.function.parameters

    @property
    def terms(self) -> int:
        return self.function.terms

    @property
    def remarks(self) -> tuple[str, ...]:
        return (*self.function.remarks, *(remark for kernel in self.kernels for remark in kernel.remarks))

    @property
    def samples(self) -> int | None:
        return self.function.samples

    @property
    def outputs(self) -> tuple[int, ...]:
        return self.function.outputs

    @property
    def stands_alone(self) -> bool:
        return self.function.stands_alone

    @property
    def loss_name(self) -> str:
        return self.function.loss_name

    @property
    def loss(self) -> float:
        return self.function.loss

    @property
    def weighted(self) -> str:
        told = (self.function.weighted, *(kernel.told for kernel in self.kernels))
        return " ".join(filter(None, told))

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.function.findings

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        return self.reference.losses(parameters)

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        return np.stack([self.losses(point) for point in points])

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.function.gradients(parameters)

    def wide_gradients(self) -> None:
        """Return None, since the kernel knows only its own type."""

    @property
    def calls(self) -> tuple[Call, ...]:
        return ()

    def attached(self) -> tuple[Attached, ...]:
        """Return no runs, since only torch modules can run without their calls of detach()."""
        return ()

    def sites(self, names: Sequence[str]) -> Sites:
        return NO_SITES

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        return self.reference.places(wrong, right)


def taps_of_reference(reference: Callee, kernel: Taps, run: Callable[[], object]) -> Taps:
    """Return the kernel's taps, to be perturbed in the reference.

    run: a function that runs the forward pass of the reference once.
    Raises `InputError` if the reference does not pass these taps with the same shapes.
    """
    watch = Watching(reference)
    with reference.running(), watching(watch):
        run()
    for name, tap in kernel.at.items():
        if name not in watch.seen:
            message = f"does not call tap('{name}', …), which {kernel.code} calls at {tap.place}"
            raise reference.complain(message, "mark the same intermediates in both, under the same names")
        found, needed = (list(each.value.shape) for each in (watch.seen[name], tap))
        if found != needed:
            message = f"calls tap('{name}', …) with shape {found}, but {kernel.code} with shape {needed}"
            raise reference.complain(message)
    return Taps(reference, kernel.at)
