"""The numbers that a parameter of a torch module stores: all of its entries, or those of a sparse pattern.

Only stored entries are perturbed. An entry that a sparse tensor does not store stays 0.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from gradcheck_cli.code.load import Callee

Tensor = Any

_COMPRESSED = ("torch.sparse_csr", "torch.sparse_csc", "torch.sparse_bsr", "torch.sparse_bsc")


class Storage(Protocol):
    """How a parameter stores its numbers.

    suffix: the ending that the report appends to the parameter's name.
    is_dense: whether the parameter stores all of its entries.
    """

    @property
    def suffix(self) -> str: ...

    @property
    def is_dense(self) -> bool: ...

    def stored(self, tensor: Tensor) -> Tensor:
        """Return, as a dense tensor, the numbers that the parameter stores."""

    def restored(self, numbers: Tensor) -> Tensor:
        """Return the parameter that stores these numbers."""

    def gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient at the stored numbers as a dense tensor. The gradient may be sparse."""


@dataclass(frozen=True)
class Dense:
    """A parameter that stores all of its entries."""

    suffix: ClassVar[str] = ""
    is_dense: ClassVar[bool] = True

    def stored(self, tensor: Tensor) -> Tensor:
        return tensor

    def restored(self, numbers: Tensor) -> Tensor:
        return numbers

    def gradient(self, gradient: Tensor) -> Tensor:
        return gradient.to_dense()


DENSE = Dense()


@dataclass(frozen=True)
class Sparse:
    """A sparse parameter. If an entry is stored twice, the two numbers add up, and both are checked.

    pattern: a copy of the parameter.
    places: the index of each stored number along the sparse axes, with one row for each axis.
    """

    torch: Any
    pattern: Tensor
    places: Tensor

    suffix: ClassVar[str] = ".values"
    is_dense: ClassVar[bool] = False

    def stored(self, tensor: Tensor) -> Tensor:
        return numbers_of(tensor)

    def restored(self, numbers: Tensor) -> Tensor:
        shape, torch = self.pattern.shape, self.torch
        if self.pattern.is_sparse:
            is_coalesced = self.pattern.is_coalesced()
            return torch.sparse_coo_tensor(
                self.places, numbers, shape, is_coalesced=is_coalesced, check_invariants=False
            )
        return _compressed(torch, self.pattern, numbers)

    def gradient(self, gradient: Tensor) -> Tensor:
        if gradient.layout == self.torch.strided:
            return gradient[tuple(self.places)]
        found = gradient.to_sparse_coo().coalesce()
        if found.sparse_dim() != len(self.places):
            return found.to_dense()[tuple(self.places)]
        return self._picked(self._flat(found.indices()), found.values())

    def _picked(self, present: Tensor, values: Tensor) -> Tensor:
        """Return the values at the stored places, with 0 at places that have no value.

        present: the flat index of each value, in ascending order.
        """
        wanted = self._flat(self.places)
        if not len(present):
            return values.new_zeros((*wanted.shape, *values.shape[1:]))
        nearest = self.torch.searchsorted(present, wanted).clamp(max=len(present) - 1)
        is_there = (present[nearest] == wanted).reshape(*wanted.shape, *[1] * (values.ndim - 1))
        return self.torch.where(is_there, values[nearest], 0.0)

    def _flat(self, places: Tensor) -> Tensor:
        return (places * self._strides.reshape(-1, *[1] * (places.ndim - 1))).sum(dim=0)

    @cached_property
    def _strides(self) -> Tensor:
        sizes = self.torch.tensor([*self.pattern.shape[1 : len(self.places)], 1])
        return sizes.flip(0).cumprod(0).flip(0).to(self.places.device)


def is_sparse(torch: Any, value: Any) -> bool:
    """Return whether a value is a sparse tensor, of any layout."""
    return isinstance(value, torch.Tensor) and value.layout != torch.strided


def numbers_of(tensor: Tensor) -> Tensor:
    """Return the numbers that a sparse tensor stores; a dense tensor is returned unchanged."""
    if str(tensor.layout) in _COMPRESSED:
        return tensor.values()
    return tensor._values() if tensor.is_sparse else tensor


def storage_of(torch: Any, code: Callee, name: str, tensor: Tensor) -> Storage:
    """Return how a parameter stores its numbers.

    Raises `InputError` if the parameter has a sparse layout that cannot be checked.

    name: the parameter's name, for the message.
    """
    if not is_sparse(torch, tensor):
        return DENSE
    pattern = tensor.detach().clone()
    try:
        places = pattern._indices() if pattern.is_sparse else _places(torch, pattern)
    except RuntimeError:
        help = f"let '{name}' hold the values, and build the sparse tensor in the forward pass"
        found = str(tensor.layout).removeprefix("torch.")
        message = f"returns '{name}' as a tensor of layout {found}; a dense, COO or CSR tensor is needed"
        raise code.complain(message, help) from None
    return Sparse(torch, pattern, places)


def _places(torch: Any, pattern: Tensor) -> Tensor:
    """Return, for every stored number of a compressed tensor, the number's index along each axis."""
    values = pattern.values()
    numbered = torch.arange(values.numel(), dtype=torch.float64, device=values.device).reshape(values.shape)
    coo = _compressed(torch, pattern, numbered).to_sparse_coo()
    places = coo._indices()[:, coo._values().argsort()]
    return places.reshape(-1, *values.shape)


def _compressed(torch: Any, pattern: Tensor, numbers: Tensor) -> Tensor:
    """Return a compressed tensor that has these numbers, and the sparse pattern of `pattern`."""
    if str(pattern.layout) in ("torch.sparse_csr", "torch.sparse_bsr"):
        indices = pattern.crow_indices(), pattern.col_indices()
    else:
        indices = pattern.ccol_indices(), pattern.row_indices()
    return torch.sparse_compressed_tensor(
        *indices, numbers, pattern.shape, layout=pattern.layout, check_invariants=False
    )


def put(torch: Any, tensor: Tensor, value: Tensor) -> None:
    """Let a tensor hold another value, possibly of another dtype.

    Assigning to the `.data` of a compressed sparse tensor does not change the tensor's numbers, so such a
    tensor is swapped instead.
    """
    if str(tensor.layout) not in _COMPRESSED:
        tensor.data = value
        return
    value = value.detach()
    if isinstance(tensor, torch.nn.Parameter):
        value = torch.nn.Parameter(value, tensor.requires_grad)
    value.requires_grad_(tensor.requires_grad)
    for generation in (0, 2):
        with suppress(RuntimeError):  # the graph of an earlier run still refers to the tensor
            torch.utils.swap_tensors(tensor, value)
            return
        gc.collect(generation)
    torch.utils.swap_tensors(tensor, value)
