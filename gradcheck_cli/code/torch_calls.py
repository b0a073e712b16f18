"""Watch the calls of a torch module's submodules in a forward pass, and shift or replace their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

from gradcheck_cli.code.torch_forward_alone import forward_alone
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_unrolled import Unrolled
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.types import Array

Tensor = Any
Module = Any


class Place(NamedTuple):
    """One call of a module in a forward pass: the module's name, and the index of the call."""

    module: str
    call: int


_WATCHED = "with its modules watched"

Visit = Callable[[Place, Any], Any]
"""A function that receives the output of each call and returns the output to use instead."""


@dataclass(frozen=True)
class Call:
    """One recorded call: copies of the arguments and of the output."""

    module: Module
    args: Any
    kwargs: Any
    output: Tensor

    def again(self, torch: Any) -> Any:
        """Call the module again with the same arguments, without any hooks."""
        args, kwargs = cloned(torch, (self.args, self.kwargs))
        return self.module.forward(*args, **kwargs)


@dataclass(frozen=True)
class Calls:
    """The forward pass of a graph, in which the calls of some modules are watched.

    The same modules are watched in every run, since torch may compute differently if a module has hooks.

    point: the parameters.
    weights: the weights in the loss.
    modules: the modules to watch, by name.
    unrolled: the modules that run written out, so that their parts can be watched.
    """

    graph: Graph
    point: Mapping[str, Array]
    weights: Weights
    modules: Mapping[str, Module]
    unrolled: Sequence[Unrolled] = ()

    def losses(self, visit: Visit, point: Mapping[str, Array] | None = None) -> Array:
        """Return the S loss terms of one forward pass in float64.

        point: the parameters; by default, the parameters of this object.
        """
        with self.graph.code.running(_WATCHED), self._watched(visit):
            return self.graph.losses(self.point if point is None else point, self.weights)

    def losses_of_copies(self, place: Place, changes: Array, copies_buffers: bool) -> Array:
        """Return the S loss terms for each of K changes of a call's output, (K, S), from a single pass.

        changes: the changes, in the shape of the output, (K, …).
        copies_buffers: whether each of the K copies of the forward pass has its own buffers.
        """

        def changed(change: Tensor) -> AbstractContextManager[None]:
            return self._watched(lambda at, output: output + change if at == place else output)

        with (
            self.graph.code.running(_WATCHED),
            forward_alone(self.graph.torch),
            _attributes_kept(self.graph.forward),
            catch_warnings(),
        ):
            simplefilter("ignore")  # torch warns about operations that it cannot batch
            return self.graph.losses_of_copies(self.point, self.weights, changes, changed, copies_buffers)

    def recorded(self) -> tuple[dict[Place, Call], Array]:
        """Run once. Return each call whose output is a tensor in float64, and the S loss terms."""
        torch = self.graph.torch
        arguments: list[Any] = []
        found: dict[Place, Call] = {}

        def before(module: Module, args: Any, kwargs: Any) -> None:
            arguments.append(cloned(torch, (args, kwargs)))

        def visit(place: Place, output: Any) -> Any:
            args, kwargs = arguments.pop()
            if _is_dense(torch, output) and output.dtype == torch.float64 and output.numel():
                module = self.modules[place.module]
                found[place] = Call(module, args, kwargs, output.detach().clone())
            return output

        handles = [
            module.register_forward_pre_hook(before, with_kwargs=True) for module in self.modules.values()
        ]
        try:
            return found, self.losses(visit)
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _watched(self, visit: Visit) -> Iterator[None]:
        counts = dict.fromkeys(self.modules, -1)

        def hook_of(name: str) -> Callable[..., Any]:
            def hook(module: Module, args: Any, output: Any) -> Any:
                counts[name] += 1
                return visit(Place(name, counts[name]), output)

            return hook

        handles = [module.register_forward_hook(hook_of(name)) for name, module in self.modules.items()]
        try:
            with ExitStack() as written_out:
                for each in self.unrolled:
                    written_out.enter_context(each.installed())
                yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _attributes_kept(root: Module) -> Iterator[None]:
    """Restore all attributes of all modules after the context.

    A module may store intermediate results, and those of `torch.func.vmap` cannot be used outside it.
    """
    before = [(module, dict(vars(module))) for module in root.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def _is_dense(torch: Any, output: Any) -> bool:
    return isinstance(output, torch.Tensor) and output.layout == torch.strided


def unchanged(place: Place, output: Any) -> Any:
    """Return the output unchanged."""
    return output


def cloned(torch: Any, tree: Any) -> Any:
    """Return a copy of nested arguments in which every tensor is a copy, too."""
    return torch.utils._pytree.tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf, tree
    )
