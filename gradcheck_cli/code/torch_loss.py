"""The loss to check: the author's own, Σ c · out, or a gradient that is projected on a direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gradcheck_cli.code.drawn import MOST_TERMS, PROJECTED, SECOND, SENTENCE, WEIGHTED_OUTPUTS, groups
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.torch_leaf import Leaf

Tensor = Any


class Loss(Protocol):
    """A loss, as a function of the module's output and, for the author's own loss, of y.

    name: the report's name for the loss.
    told: a sentence that says how gradcheck made the loss; empty for the author's own loss.
    backward: the report's name for the pass that computes the loss's gradient.
    is_own: whether the author wrote the loss.
    is_first: whether the loss's gradient is a first derivative.
    outputs: the number of entries in each output if the loss is Σ c · out; otherwise empty.
    """

    @property
    def name(self) -> str: ...

    @property
    def told(self) -> str: ...

    @property
    def backward(self) -> str: ...

    @property
    def is_own(self) -> bool: ...

    @property
    def is_first(self) -> bool: ...

    @property
    def outputs(self) -> tuple[int, ...]: ...

    def __call__(self, output: Any, *y: Tensor) -> Tensor:
        """Return the S terms that add up to the loss, (S,)."""


@dataclass(frozen=True)
class OwnLoss:
    """The loss that the author wrote. A result that is not a loss is refused."""

    torch: Any
    code: Callee
    function: Callable[..., Tensor]

    name: ClassVar[str] = "its own loss"
    told: ClassVar[str] = ""
    backward: ClassVar[str] = "backward"
    is_own: ClassVar[bool] = True
    is_first: ClassVar[bool] = True
    outputs: ClassVar[tuple[int, ...]] = ()

    def __call__(self, output: Any, *y: Tensor) -> Tensor:
        terms = self.function(output, *y)
        if not isinstance(terms, self.torch.Tensor):
            raise self.code.complain(f"returns {a(terms)} as its loss; a tensor is needed")
        if terms.is_complex():
            help = "take its .real, or .abs().square() for a distance"
            raise self.code.complain(f"returns a loss in {_type_name(terms)}; a real loss is needed", help)
        if terms.ndim > 1 or not terms.numel():
            found = f"a loss of shape {list(terms.shape)}"
            raise self.code.complain(f"returns {found}; a number or one term per sample is needed")
        return terms.reshape(-1)


@dataclass(frozen=True)
class RandomUpstream:
    """L = Σ c · out over all outputs, for a module without a loss. An output of whole numbers is left out.

    weights: c, one real tensor for each output. If the output is complex, its tensor has a last axis of two,
        for the real and the imaginary part.
    """

    torch: Any
    code: Callee
    weights: Sequence[Tensor]

    name: ClassVar[str] = WEIGHTED_OUTPUTS
    told: ClassVar[str] = SENTENCE
    backward: ClassVar[str] = "backward"
    is_own: ClassVar[bool] = False
    is_first: ClassVar[bool] = True

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(c.numel() for c in self.weights)

    def __call__(self, output: Any, *y: Tensor) -> Tensor:
        outs = outputs_of(self.torch, output)
        found, needed = ([list(t.shape) for t in tensors] for tensors in (outs, self.weights))
        if found != needed:
            raise self.code.complain(
                f"gives outputs of shapes {found}, but of shapes {needed} in an earlier call"
            )
        products = [c.to(out.device, out.dtype) * out for c, out in zip(self.weights, outs, strict=True)]
        return grouped(self.torch, products)


@dataclass(frozen=True)
class ProjectedGradient:
    """g = ⟨∇L, v⟩, with v drawn at random. The gradient of g is the second derivative of L times v.

    first: a function of the output and y that returns the S terms of L.
    of: a sentence that says how L differs from the author's loss.
    leaves: the parameters with respect to which L is differentiated.
    directions: v, one real tensor for each parameter in `leaves`.
    """

    torch: Any
    first: Callable[..., Tensor]
    of: str
    leaves: Sequence[Leaf]
    directions: Sequence[Tensor]

    name: ClassVar[str] = PROJECTED
    backward: ClassVar[str] = "double backward"
    is_own: ClassVar[bool] = False
    is_first: ClassVar[bool] = False
    outputs: ClassVar[tuple[int, ...]] = ()

    @property
    def told(self) -> str:
        return f"{SECOND} {self.of}".rstrip()

    def __call__(self, output: Any, *y: Tensor) -> Tensor:
        gradients = self._first_gradients(self.first(output, *y).sum())
        pairs = zip(self.directions, gradients, strict=True)
        return grouped(self.torch, [v.to(g.device, g.dtype) * g for v, g in pairs])

    def _first_gradients(self, loss: Tensor) -> list[Tensor]:
        """Return ∇L at the stored numbers as dense real tensors; zeros for parameters that L ignores."""
        tensors = [leaf.tensor for leaf in self.leaves]
        if not loss.requires_grad:
            found = [None] * len(tensors)
        else:
            found = self.torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
        pairs = zip(self.leaves, found, strict=True)
        return [in_real_parts(self.torch, _first_gradient(leaf, g)) for leaf, g in pairs]


def _first_gradient(leaf: Leaf, found: Tensor | None) -> Tensor:
    if found is None:
        return leaf.zeros().to(leaf.tensor.device)
    return leaf.storage.gradient(found)


def outputs_of(torch: Any, output: Any) -> list[Tensor]:
    """Return the outputs that can have a gradient, as dense real tensors, however the module nests them."""
    leaves = torch.utils._pytree.tree_leaves(output)
    return [
        in_real_parts(torch, leaf if leaf.layout == torch.strided else leaf.to_dense())
        for leaf in leaves
        if isinstance(leaf, torch.Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    ]


def in_real_parts(torch: Any, tensor: Tensor) -> Tensor:
    """Return a complex tensor as a real one with a last axis of two; a real tensor is returned unchanged."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def grouped(torch: Any, products: Sequence[Tensor]) -> Tensor:
    """Return the entries of all tensors as one vector.

    If there are more than `MOST_TERMS` entries, they are added up in groups.
    """
    flat = torch.cat([product.reshape(-1) for product in products])
    if len(flat) <= MOST_TERMS:
        return flat
    group = torch.from_numpy(groups(len(flat))).to(flat.device)
    return flat.new_zeros(MOST_TERMS).index_add(0, group, flat)


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
