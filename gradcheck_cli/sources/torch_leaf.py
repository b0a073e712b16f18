"""One parameter of a torch module: its name and layout there and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck_cli.model.named_arrays import Dialect
from gradcheck_cli.sources.evaluation import plain
from gradcheck_cli.types import Array

Tensor = Any
"""A torch.Tensor; torch is imported only on demand."""


@dataclass(frozen=True)
class Leaf:
    """A parameter of the module. A complex one is checked as two real tensors, NAME.real and NAME.imag.

    torch's gradient of a complex z is ∂L/∂Re z + i ∂L/∂Im z, so its parts are the gradients of these two.
    name: what the module calls it.  own: the type that the module gives it.
    called: what the report calls it.  turned: whether the report has its two axes swapped.
    padding: rows that get no gradient, and what they hold.
    """

    name: str
    tensor: Tensor
    own: Any
    called: str
    turned: bool = False
    padding: Mapping[int, Array] = field(default_factory=dict)

    def in_our_words(self, dialect: Dialect) -> Leaf:
        """The same leaf, under our name and in our layout."""
        ours = dialect.of(self.name)
        return replace(self, called=ours, turned=dialect.turns(ours, self.tensor.ndim))

    def holding(self, gradients: Mapping[str, Array]) -> Leaf:
        """The same leaf, with only those padding rows whose gradient is 0."""
        rows = {
            row: held
            for row, held in self.padding.items()
            if not self._turn(gradients[self.called])[row].any()
        }
        return replace(self, padding=rows)

    def as_it_is(self) -> dict[str, Array]:
        """The real tensors that the parameter consists of, as the module names them and lays them out."""
        return replace(self, called=self.name, turned=False).parts(widened(self.tensor.detach(), True).cpu())

    def parts(self, whole: Tensor) -> dict[str, Array]:
        """The real tensors that the parameter, or its gradient, consists of."""
        if not self.own.is_complex:
            return {self.called: self._turn(plain(whole))}
        parts = {"real": whole.real, "imag": whole.imag}
        return {f"{self.called}.{part}": self._turn(plain(tensor)) for part, tensor in parts.items()}

    def whole(self, parts: Mapping[str, Array]) -> Array:
        """The parameter that consists of these parts, in the wide type."""
        if not self.own.is_complex:
            whole = np.array(self._turn(parts[self.called]), dtype=np.float64, order="C")
            for row, held in self.padding.items():
                whole[..., row, :] = held
            return whole
        re, im = (self._turn(parts[f"{self.called}.{part}"]) for part in ("real", "imag"))
        whole = np.empty(re.shape, dtype=np.complex128)
        whole.real, whole.imag = re, im
        return whole

    def _turn(self, array: Array) -> Array:
        """Between the layout of the module and ours, either way; a first axis may count points."""
        return np.ascontiguousarray(np.swapaxes(array, -1, -2)) if self.turned else array


def widened(tensor: Tensor, wide: bool) -> Tensor:
    """In the types that differences need, float64 and complex128."""
    if wide and tensor.is_complex():
        return tensor.cdouble()
    return tensor.double() if wide and tensor.is_floating_point() else tensor
