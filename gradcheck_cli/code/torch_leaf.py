"""A parameter of a torch module, whose name and layout may differ between the module and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.torch_storage import DENSE, Storage, put
from gradcheck_cli.types import Array, Shape

Tensor = Any
"""Stands for the type torch.Tensor, because torch is imported only if it is needed."""


@dataclass(frozen=True)
class Leaf:
    """A parameter of a torch module.

    A complex parameter is checked as two real tensors, NAME.real and NAME.imag. With respect to a complex z,
    torch returns the gradient ∂L/∂Re z + i ∂L/∂Im z. So the real and the imaginary part of that gradient are
    the gradients of the two tensors.

    name: the parameter's name in the module.
    own: the parameter's dtype in the module.
    called: the parameter's name in the report, which is NAME.values for a sparse parameter.
    turned: whether the parameter's two axes are swapped in the report.
    storage: a description of the entries that the parameter stores.
    padding: the values of the padding rows, which get no gradient, by the index of the row.
    """

    name: str
    tensor: Tensor
    own: Any
    called: str
    turned: bool = False
    storage: Storage = DENSE
    padding: Mapping[int, Array] = field(default_factory=dict)

    def in_our_words(self, dialect: Dialect) -> Leaf:
        """Return a copy of the leaf that has gradcheck's name and layout in the report."""
        ours = dialect.of(self.name)
        turned = self.storage.is_dense and dialect.turns(ours, self.tensor.ndim)
        return replace(self, called=ours + self.storage.suffix, turned=turned)

    def holding(self, gradients: Mapping[str, Array]) -> Leaf:
        """Return a copy of the leaf in which padding rows with a nonzero gradient count as ordinary rows."""
        rows = {
            row: held
            for row, held in self.padding.items()
            if not self._turn(gradients[self.called])[row].any()
        }
        return replace(self, padding=rows)

    def as_it_is(self) -> dict[str, Array]:
        """Return the parameter as one or two real arrays under the module's own name and in its layout."""
        return replace(self, called=self.name + self.storage.suffix, turned=False).values()

    def values(self) -> dict[str, Array]:
        """Return the stored numbers as real arrays by name, in float64."""
        return self.parts(widened(self.storage.stored(self.tensor.detach()), True).cpu())

    def assign(self, torch: Any, parts: Mapping[str, Array], wide: bool) -> None:
        """Assign the parameter, and delete the gradient that torch computed for it.

        parts: the numbers to store, as real arrays by name.
        wide: whether to store the numbers in float64 rather than in the parameter's own dtype.
        """
        numbers = torch.from_numpy(self.whole(parts))
        numbers = numbers.to(self.tensor.device, numbers.dtype if wide else self.own)
        put(torch, self.tensor, self.storage.restored(numbers))
        self.tensor.grad = None

    def gradient(self) -> Tensor:
        """Return the gradient at the stored numbers, on the CPU; zeros if backward computed none."""
        return self.zeros() if self.tensor.grad is None else self.storage.gradient(self.tensor.grad).cpu()

    def zeros(self) -> Tensor:
        """Return a gradient of 0 at the stored numbers, on the CPU."""
        return self.storage.stored(self.tensor.detach()).new_zeros(self.stored_shape).cpu()

    @property
    def stored_shape(self) -> Shape:
        """The shape of the stored numbers."""
        return tuple(self.storage.stored(self.tensor.detach()).shape)

    def parts(self, whole: Tensor) -> dict[str, Array]:
        """Convert stored numbers or a gradient to real arrays by name: one array, or two if complex.

        The arrays have the names and the layout of the report.

        whole: a dense tensor, in the module's layout.
        """
        if not self.own.is_complex:
            return {self.called: self._turn(plain(whole))}
        parts = {"real": whole.real, "imag": whole.imag}
        return {f"{self.called}.{part}": self._turn(plain(tensor)) for part, tensor in parts.items()}

    def whole(self, parts: Mapping[str, Array]) -> Array:
        """Assemble the stored numbers from real arrays, in the module's layout, as float64 or complex128.

        parts: the arrays by name, in the report's layout.
        """
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
        """Convert a matrix, or a stack of matrices, from the module's layout to the report's or back."""
        return np.ascontiguousarray(np.swapaxes(array, -1, -2)) if self.turned else array


def widened(tensor: Tensor, wide: bool) -> Tensor:
    """Return the tensor, converted to float64 or complex128 if `wide` is set, for finite differences.

    Integer tensors are returned unchanged.
    """
    if wide and tensor.is_complex():
        return tensor.cdouble()
    return tensor.double() if wide and tensor.is_floating_point() else tensor
