"""Run a torch module and its loss at any parameters, in the module's own type or in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from gradcheck_cli.arrays.named_arrays import Author, Dialect
from gradcheck_cli.arrays.shapes import match_shapes
from gradcheck_cli.arrays.stored import Header
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import as_point, plain, real
from gradcheck_cli.code.torch_leaf import Leaf, Tensor, widened
from gradcheck_cli.code.torch_loss import Loss
from gradcheck_cli.code.torch_storage import numbers_of, put
from gradcheck_cli.code.torch_types import is_wide
from gradcheck_cli.code.torch_upstream import AS_IT_IS, Node, Upstream, Weights, leaf_tensors, own_nodes
from gradcheck_cli.types import Array

Result = TypeVar("Result")

Batch = Callable[[Tensor, Sequence[Tensor], Tensor], Sequence[Tensor]]
"""A function that runs backward for several upstreams at once, and returns a stack of gradients per tensor.

The function takes the loss terms, (S,), the tensors, and the upstreams, (K, S).
"""

_LAYERS = "name the layers as the module does, or under 'gradients', add names: {MODULE_NAME: SPEC_NAME}"


@dataclass(frozen=True)
class Graph:
    """A forward pass and a loss that can be run at any parameters.

    The parameters are assigned to the module's tensors before each run.

    functional: the forward pass as a function of x and a mapping of parameters by name.
    leaves: the parameters.
    held: all other tensors of the module, paired with their initial values.
    x, y: the data in the module's type; None if there are no data.
    shared: for every parameter name, the first name of the same tensor.
    differentiates: whether the forward pass itself computes derivatives, and so needs autograd enabled.
    """

    torch: Any
    code: Callee
    forward: Callable[..., Any]
    functional: Callable[..., Any]
    loss: Loss
    leaves: Sequence[Leaf]
    held: tuple[tuple[Tensor, Tensor], ...]
    x: Tensor | None
    y: Tensor | None
    shared: Mapping[str, str]
    differentiates: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each parameter with several names, each padding row, and each sparse parameter."""
        same = (
            f"'{name}' is the same tensor as '{first}': both are perturbed together and share one gradient"
            for name, first in self.shared.items()
            if name != first
        )
        padding = (
            f"row {row} of '{leaf.name}' is its padding_idx, which gets no gradient, so the row is held fixed"
            for leaf in self.leaves
            for row in leaf.padding
        )
        sparse = (
            f"'{leaf.name}' is sparse: the numbers that it stores are checked, and its other entries stay 0"
            for leaf in self.leaves
            if not leaf.storage.is_dense
        )
        return (*same, *padding, *sparse)

    def keeping_padding(self, point: Mapping[str, Array]) -> Graph:
        """Return a copy of the graph in which padding rows of embeddings stay fixed if they get no gradient.

        A padding row does get a gradient if the embedding's weight is also used elsewhere.

        point: the parameters at which the gradients are computed.
        """
        if not any(leaf.padding for leaf in self.leaves):
            return self
        gradients = self.gradients(point, Upstream(AS_IT_IS))
        return replace(self, leaves=[leaf.holding(gradients) for leaf in self.leaves])

    def in_our_words(self, dialect: Dialect) -> Graph:
        """Return a copy of the graph whose parameters have gradcheck's names and layout."""
        return replace(self, leaves=[leaf.in_our_words(dialect) for leaf in self.leaves])

    def begin_at(self, inputs: Inputs, dialect: Dialect) -> None:
        """Copy the parameters in `inputs`, if there are any, into the module.

        Raises `InputError` if the names or shapes of the parameters do not fit.
        """
        if inputs.parameters is None:
            return
        if inputs.problem is not None:
            author = Author(self.code.file.name, self.code.where, dialect)
            author.refuse_misfits(self._headers(), inputs.problem.network.shapes, None, "parameter", _LAYERS)
        else:
            shapes = {name: array.shape for name, array in self.point().items()}
            match_shapes(inputs.parameters, shapes, "parameter", self.code.where, _LAYERS)
        self._assign(as_point(inputs.parameters, ("parameters", "file")), wide=False)

    def _headers(self) -> dict[str, Header]:
        """Return a header (name, shape and dtype) for each parameter, keyed by the module's own names."""
        parts = {name: part for leaf in self.leaves for name, part in leaf.as_it_is().items()}
        return {name: Header(name, part.shape, part.dtype) for name, part in parts.items()}

    def point(self) -> dict[str, Array]:
        """Return the module's current parameters by name, in float64, which represents them exactly."""
        return as_point(self._values(), self.code.where)

    def losses(self, parameters: Mapping[str, Array], weights: Weights) -> Array:
        """Run the forward pass in float64 at these parameters and return the S loss terms, (S,)."""
        return self.run_at(parameters, lambda: real(plain(self._terms(True, weights).cpu())))

    def is_wide(self, parameters: Mapping[str, Array]) -> bool:
        """Return whether the losses at these parameters are known to be computed in float64 throughout."""
        return self.run_at(parameters, lambda: is_wide(self.torch, lambda: self._terms(True, AS_IT_IS)))

    def run_at(self, parameters: Mapping[str, Array], run: Callable[[], Result]) -> Result:
        """Call `run` while the module holds these parameters in float64, and return the result."""
        with self._autograd(), _one_thread(self.torch):
            self._assign(parameters, wide=True)
            return run()

    def losses_at(self, points: Sequence[Mapping[str, Array]], weights: Weights) -> Array:
        """Return the S loss terms at each of K points, (K, S), computed in one call to torch.func.vmap."""
        if sparse := next((leaf.name for leaf in self.leaves if not leaf.storage.is_dense), ""):
            raise self.code.complain(
                f"is vectorized, but torch.func.vmap does not accept the sparse tensor '{sparse}'"
            )
        self._assign(points[0], wide=True)
        stack = {name: np.stack([point[name] for point in points]) for name in points[0]}
        leaves = {
            leaf.name: self.torch.from_numpy(leaf.whole(stack)).to(leaf.tensor.device) for leaf in self.leaves
        }
        with self._autograd(), _one_thread(self.torch):
            terms = self.torch.func.vmap(lambda one: self._terms(True, weights, one))(leaves)
            return real(plain(terms.cpu()))

    def losses_of_copies(
        self,
        parameters: Mapping[str, Array],
        weights: Weights,
        changes: Array,
        changed: Callable[[Tensor], AbstractContextManager[None]],
        copies_buffers: bool,
    ) -> Array:
        """Return the S loss terms of K copies of the forward pass, (K, S), in one call to torch.func.vmap.

        changes: what to change in each copy, (K, …).
        changed: a function that takes one of the changes and returns a context in which the change applies.
        copies_buffers: whether each copy has its own buffers, which it may update in place.
        """

        def one(change: Tensor) -> Tensor:
            buffers = self._copied_buffers(change) if copies_buffers else {}
            with changed(change):
                return self._terms(True, weights, buffers or None)

        stack = self.torch.from_numpy(changes).to(self.leaves[0].tensor.device)
        return self.run_at(
            parameters, lambda: real(plain(self.torch.func.vmap(one)(stack).contiguous().cpu()))
        )

    def _copied_buffers(self, like: Tensor) -> dict[str, Tensor]:
        """Return copies of the module's floating-point buffers, as many as `like` has in torch.func.vmap."""
        zero = self.torch.zeros_like(like).sum()
        module: Any = self.forward
        buffers = module.named_buffers()
        return {name: buffer + zero for name, buffer in buffers if buffer.is_floating_point()}

    @property
    def differenced(self) -> Graph:
        """The graph that computes the losses."""
        return self

    def kernels(self, parameters: Mapping[str, Array], upstream: Upstream) -> tuple[Kernel, ...]:
        """Return the kernel whose losses come from a reference, as in `Function`; there is none here."""
        return ()

    def gradients(
        self,
        parameters: Mapping[str, Array],
        upstream: Upstream,
        wide: bool = False,
        watch: Callable[[Sequence[Node]], None] | None = None,
    ) -> Mapping[str, Array]:
        """Run backward and return the gradients by name. If a parameter gets no gradient, its gradient is 0.

        wide: whether to compute in float64 rather than in the module's own type.
        watch: a function to call before backward runs. It takes the backward nodes outside torch.
        """
        return self.run(parameters, upstream, wide, watch).gradients

    def run(
        self,
        parameters: Mapping[str, Array],
        upstream: Upstream,
        wide: bool = False,
        watch: Callable[[Sequence[Node]], None] | None = None,
    ) -> Evaluation:
        """Run forward and backward, and return the loss terms and the gradients, as `gradients` does.

        wide: whether to compute in float64 rather than in the module's own type.
        watch: a function called before backward runs, with the backward nodes that are not part of torch.
        """
        self._assign(parameters, wide)
        terms = self._run_backward(upstream, wide, watch)
        parts = {
            name: real(part) for leaf in self.leaves for name, part in leaf.parts(leaf.gradient()).items()
        }
        return Evaluation(real(plain(terms.cpu())), parts)

    def is_wide_backward(self, parameters: Mapping[str, Array], upstream: Upstream) -> bool:
        """Return whether backward, if run with float64 inputs, is known to compute in float64 throughout."""
        self._assign(parameters, wide=True)
        return is_wide(self.torch, lambda: self._run_backward(upstream, wide=True))

    def _run_backward(
        self, upstream: Upstream, wide: bool, watch: Callable[[Sequence[Node]], None] | None = None
    ) -> Tensor:
        """Run forward and backward at the parameters that are assigned, and return the loss terms."""
        with self.torch.enable_grad():
            terms = self._terms(wide, upstream.weights)
            nodes = own_nodes(self.torch, terms)
            upstream.lay_out(nodes)
            if watch:
                watch(nodes)
            if terms.requires_grad:
                terms.sum().backward()
        return terms

    def batched_gradients(
        self, parameters: Mapping[str, Array], weights: Weights, factors: Array, batch: Batch
    ) -> list[Mapping[str, Array]]:
        """Return the gradients of K losses, computed in one backward pass for K upstreams.

        factors: for each of the K losses, the factors on the S terms of the weighted loss, (K, S).
        batch: a function that runs that backward pass.
        """
        if sparse := next((leaf.name for leaf in self.leaves if not leaf.storage.is_dense), ""):
            raise self.code.complain(
                f"has the sparse tensor '{sparse}', which torch does not accept in a batch"
            )
        self._assign(parameters, wide=False)
        with self.torch.enable_grad():
            terms = self._terms(False, weights)
            used = self._used(terms)
            found = batch(terms, [leaf.tensor for leaf in used], terms.new_tensor(factors)) if used else ()
        by_name = {leaf.name: gradient for leaf, gradient in zip(used, found, strict=True)}
        return [self._row(by_name, row) for row in range(len(factors))]

    def _used(self, terms: Tensor) -> list[Leaf]:
        """Return the parameters that backward computes a gradient for."""
        if not terms.requires_grad:
            return []
        tensors = [leaf.tensor for leaf in self.leaves]
        found = self.torch.autograd.grad(terms.sum(), tensors, retain_graph=True, allow_unused=True)
        return [leaf for leaf, gradient in zip(self.leaves, found, strict=True) if gradient is not None]

    def _row(self, by_name: Mapping[str, Tensor], row: int) -> dict[str, Array]:
        """Return the real gradients in one row of a batch. A parameter without a gradient counts as 0."""
        gradients = (
            (leaf, by_name[leaf.name][row].cpu() if leaf.name in by_name else leaf.zeros())
            for leaf in self.leaves
        )
        return {name: real(part) for leaf, g in gradients for name, part in leaf.parts(g).items()}

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Assign the parameters to the module, in its own type."""
        self._assign(parameters, wide=False)

    def terms(self, weights: Weights, leaves: Mapping[str, Tensor]) -> Tensor:
        """Return the S weighted loss terms, (S,), with some tensors in place of the module's parameters."""
        return self._terms(False, weights, leaves)

    def unchecked(self, parameters: Mapping[str, Array]) -> list[Tensor]:
        """Return the tensors that require a gradient and affect the loss, but are not checked."""
        self._assign(parameters, wide=False)
        checked = {id(leaf.tensor) for leaf in self.leaves}
        with self.torch.enable_grad():
            used = leaf_tensors(self._terms(False, AS_IT_IS))
        return [tensor for tensor in used if id(tensor) not in checked]

    def upstream_of_output(self, parameters: Mapping[str, Array]) -> Tensor | None:
        """Return the gradient of the loss with respect to the module's output.

        Returns None if the output is not a single dense real tensor, or gets no gradient.
        """
        arrived: list[Tensor] = []
        self._assign(parameters, wide=False)
        with self.torch.enable_grad():
            x, y = self._data(wide=False)
            output = self.forward(*x)
            if not isinstance(output, self.torch.Tensor) or not output.is_floating_point():
                return None
            if not output.requires_grad or output.layout != self.torch.strided:
                return None
            hook = output.register_hook(arrived.append)
            terms = self.loss(output, *y)
            if terms.requires_grad:
                terms.sum().backward()
            hook.remove()
        return arrived[0].detach() if len(arrived) == 1 else None

    @property
    def silent(self) -> list[str]:
        """The names of the parameters that got no gradient in the last backward run."""
        return [leaf.name for leaf in self.leaves if leaf.tensor.grad is None]

    @property
    def types(self) -> set[Any]:
        """The torch dtypes of the module's parameters."""
        return {leaf.own for leaf in self.leaves}

    @property
    def eps(self) -> float:
        """The machine epsilon of the least precise dtype among the parameters."""
        return max(float(self.torch.finfo(own).eps) for own in self.types)

    def arguments(self, point: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Return copies of the parameters and the data, by name, to detect whether the code changes them.

        point: parameters to assign first; None to leave the module's parameters as they are.
        """
        if point is not None:
            self._assign(point, wide=False)
        arrays = {f"parameter '{name}'": array for name, array in self._values().items()}
        given = (("x", self.x), ("y", self.y))
        return arrays | {name: plain(numbers_of(t).cpu()).copy() for name, t in given if t is not None}

    def _values(self) -> dict[str, Array]:
        return {name: part.copy() for leaf in self.leaves for name, part in leaf.values().items()}

    def _assign(self, parameters: Mapping[str, Array], wide: bool) -> None:
        """Assign the parameters to the module, and reset all of its other tensors to their initial values.

        wide: whether to assign all tensors in float64 rather than in the module's own type.
        """
        for leaf in self.leaves:
            leaf.assign(self.torch, parameters, wide)
        for tensor, first in self.held:
            put(self.torch, tensor, widened(first.clone(), wide))

    def _terms(self, wide: bool, weights: Weights, leaves: Mapping[str, Tensor] | None = None) -> Tensor:
        """Compute the weighted loss terms.

        wide: whether to convert the data to float64.
        leaves: tensors to use in place of the module's parameters, by name.
        """
        x, y = self._data(wide)
        output = self.forward(*x) if leaves is None else self.functional(leaves, *x)
        return weights.weigh(output, self.loss(output, *y))

    def _data(self, wide: bool) -> tuple[list[Tensor], list[Tensor]]:
        x, y = ([] if t is None else [widened(t, wide)] for t in (self.x, self.y))
        return x, y

    def _autograd(self) -> Any:
        return self.torch.enable_grad() if self.differentiates else self.torch.no_grad()


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Limit torch to one thread. On a busy machine, this can make a short forward pass 20 times as fast.

    More threads would mostly wait for each other. Backward is not limited, since a race between its threads
    is a mistake that a check should find.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
