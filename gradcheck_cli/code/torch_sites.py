"""Find the sites of a torch module: outputs of its submodules that parameters enter affinely.

A site is verified with forward passes in three ways, for all of its entries at once.

1. After a random change Δ of the parameter, the output of the submodule changes by J Δ, where J is the
guessed matrix of factors (`torch_factors`).

2. If the outputs of all submodules that hold the parameter are kept fixed, no change of the parameter changes
the loss. So the parameter is used nowhere else, such as in `F.linear(x, self.lin.weight)` or in a penalty.

3. A change in one sample leaves the loss terms of all other samples as they are, bit for bit. If not, as in
batch normalisation in training mode, only one entry of the output is perturbed at a time.

A parameter that fails a test has no site and is checked in another way. If torch computes a weight from other
parameters, as in a weight norm, these have the sites of the weight (`torch_parametrized`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from math import ceil, log2, prod
from typing import Any

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.objective import length
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.torch_calls import Calls, Module, Place, Tensor, unchanged
from gradcheck_cli.code.torch_factors import GUESSES, Entry, Layout, turned
from gradcheck_cli.code.torch_graph import Graph
from gradcheck_cli.code.torch_leaf import Leaf
from gradcheck_cli.code.torch_parametrized import Weight, computed_weights, evaluations, through
from gradcheck_cli.code.torch_spots import Spot, TorchSites, Uses, passes_of, shifted
from gradcheck_cli.code.torch_terms import in_terms, near
from gradcheck_cli.code.torch_unrolled import Unrolled, unrolled
from gradcheck_cli.code.torch_upstream import Weights
from gradcheck_cli.numerical.objective import Factors, Use
from gradcheck_cli.types import EPS, Array, Shape

_FEW = 256
"""If the parameters have no more entries than this in total, they are perturbed entry by entry.

That method assumes nothing about the module.
"""

_VERIFICATION = 16
"""Verifying one parameter costs about as much as perturbing this many entries."""

_DRAWS = 2
"""The number of random tests of each property."""

_SHIFT = 2.0**-4
"""The size of a random change in a test, relative to the size of the array that is changed."""

_TOLERANCE, _ROUNDINGS = 1e-11, 64.0
"""The allowed deviation from J Δ, relative to the terms of the sum, and in roundings of the output."""


def find_sites(graph: Graph, point: Mapping[str, Array], weights: Weights, names: Sequence[str]) -> Sites:
    """Return verified sites of all parameters in `names` for which sites save evaluations.

    weights: the weights in the loss.
    """
    leaves = [leaf for leaf in graph.leaves if leaf.called in names]
    is_small = sum(prod(leaf.stored_shape) for leaf in leaves) <= _FEW
    if is_small or graph.differentiates or not _can_be_watched(graph):
        return NO_SITES
    graph, weights = in_terms(graph, point, weights)
    tensors = [leaf.tensor for leaf in leaves]
    for written_out in (unrolled(graph.torch, graph.forward, tensors), {}):
        search = _Search(graph, weights, point, leaves, written_out)
        if search.is_faithful():
            return search.sites()
    return NO_SITES


def _can_be_watched(graph: Graph) -> bool:
    """Return whether the graph is a module without any compiled part.

    Compiled code may ignore hooks, or be compiled again whenever the hooks change.
    """
    compiler: Any = sys.modules.get("torch._dynamo")
    is_compiled = compiler is not None and compiler.utils.counters["frames"]["total"] > 0
    return isinstance(graph.forward, graph.torch.nn.Module) and not is_compiled


class _Search:
    """The search for sites of some parameters."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        point: Mapping[str, Array],
        leaves: Sequence[Leaf],
        written_out: Mapping[str, Unrolled],
    ) -> None:
        self.graph = graph
        self.point = point
        self.leaves = [leaf for leaf in leaves if _may_have_sites(leaf)]
        self.owners = {leaf.called: _owners(graph.forward, leaf.tensor, written_out) for leaf in self.leaves}
        self.weights = self._computed()
        modules = {name: module for owners in self.owners.values() for name, module in owners.items()}
        self.calls = Calls(graph, point, weights, modules, list(written_out.values()))
        self.recorded, self.rest = self.calls.recorded()
        self.spots: dict[Place, Spot] = {}
        self.rng = np.random.default_rng(0)

    def is_faithful(self) -> bool:
        """Return whether the watched forward pass is repeatable, and gives the losses of the graph.

        A module that is written out may round differently, but must give the same losses near the point.
        """
        if not np.array_equal(self.calls.losses(unchanged), self.rest):
            return False
        return not self.calls.unrolled or all(
            (watched := self._attempted(partial(self.calls.losses, unchanged, at))) is not None
            and (whole := self._attempted(partial(self.graph.losses, at, self.calls.weights))) is not None
            and _agree(watched, whole)
            for at in near(self.point)
        )

    def sites(self) -> Sites:
        """Return the verified sites that save evaluations."""
        found = {name: uses for group in self._groups() for name, uses in self._verified(group).items()}
        spots = list({spot.place: spot for each in found.values() for spot, _ in each}.values())
        sites = {spot.place: site for site, spot in enumerate(spots)}
        uses = {name: [Use(sites[spot.place], f) for spot, f in each] for name, each in found.items()}
        passes = [passes_of(self.calls, spot, self.rest, self.rng) for spot in spots]
        return TorchSites(self.calls, spots, uses, self.rest, passes)

    # --- what is worth it ----------------------------------------------------------------------------------

    def _places(self, leaf: Leaf) -> list[Place]:
        return [place for place in self.recorded if place.module in self.owners[leaf.called]]

    def _groups(self) -> Iterator[list[Leaf]]:
        """Yield the parameters in groups. Parameters that enter the same call's output share a group."""
        left = [leaf for leaf in self.leaves if self._places(leaf)]
        while left:
            group, left = [left[0]], left[1:]
            places = set(self._places(group[0]))
            while more := [leaf for leaf in left if places & set(self._places(leaf))]:
                group += more
                left = [leaf for leaf in left if leaf not in more]
                places |= {place for leaf in more for place in self._places(leaf)}
            yield group

    def _verified(self, group: Sequence[Leaf]) -> dict[str, Uses]:
        """Return the verified uses of the parameters of a group; empty if they would save no evaluations."""
        if not self._pays(group):
            return {}
        uses = {leaf.called: self._uses(leaf) for leaf in group if self._enters_nowhere_else(leaf)}
        left = [leaf for leaf in group if uses.get(leaf.called)]
        return {leaf.called: uses[leaf.called] for leaf in left} if self._pays(left) else {}

    def _pays(self, group: Sequence[Leaf]) -> bool:
        """Return whether perturbing a group's sites costs less than perturbing its parameters' entries."""
        entries = sum(leaf.tensor.numel() for leaf in group)
        places = list(dict.fromkeys(place for leaf in group for place in self._places(leaf)))
        least = sum(self.recorded[place].output.numel() for place in places) // self._most_samples
        fixed = _VERIFICATION * len(group)
        fixed += sum(evaluations(leaf.stored_shape) for leaf in group if leaf.called in self.weights)
        if entries <= _FEW or least + fixed >= entries:
            return False
        return sum(spot.cost for spot in self._spots_at(places)) + fixed < entries

    # --- samples that do not affect each other -------------------------------------------------------------

    @property
    def _most_samples(self) -> int:
        return max([1, *self._sample_counts])

    @cached_property
    def _sample_counts(self) -> list[int]:
        """The possible numbers of samples. Each of them divides the number of loss terms."""
        x, terms = self.graph.x, len(self.rest)
        counts = [terms] if x is None or not x.ndim else [terms, len(x)]
        return [n for n in dict.fromkeys(counts) if n > 1 and terms % n == 0]

    def _spots_at(self, places: Sequence[Place]) -> list[Spot]:
        """Return the spots at these places. All are tested together first, and then one by one if needed."""
        new = [place for place in places if place not in self.spots]
        likely = [next(self._possible(place)) for place in new]
        if self._are_separate(likely):
            self.spots.update({spot.place: spot for spot in likely})
        for place in [place for place in new if place not in self.spots]:
            self.spots[place] = next(spot for spot in self._possible(place) if self._are_separate([spot]))
        return [self.spots[place] for place in places]

    def _possible(self, place: Place) -> Iterator[Spot]:
        """Yield every way to split an output into samples. The last way has only one sample."""
        call, terms = self.recorded[place], np.arange(len(self.rest))
        shape = tuple(call.output.shape)
        for n in self._sample_counts:
            for layout in _layouts(shape, n):
                yield Spot(place, call, layout, terms.reshape(n, -1))
                if len(terms) > n:
                    yield Spot(place, call, layout, terms.reshape(-1, n).T)
        yield Spot(place, call, Layout((1, *shape), 0), terms[None])

    def _are_separate(self, spots: Sequence[Spot]) -> bool:
        """Return whether changing some samples at these spots leaves all other samples' loss terms unchanged.

        The test shifts half of the samples at a time, once for each bit of their indices. Any two samples
        differ in some bit.
        """
        for bit in range(max((ceil(log2(len(spot.terms))) for spot in spots), default=0)):
            for side in (0, 1):
                moved = {spot.place: (np.arange(len(spot.terms)) >> bit) & 1 == side for spot in spots}
                losses = self._shifted(spots, moved)
                still = [spot.terms[~moved[spot.place]] for spot in spots]
                if losses is None or any((losses[s] != self.rest[s]).any() for s in still):
                    return False
        return True

    def _shifted(self, spots: Sequence[Spot], moved: Mapping[Place, Array]) -> Array | None:
        """Return the loss terms after random shifts of the marked samples; None if the code fails.

        moved: a mask of the samples to shift, for each spot.
        """
        flat = {}
        for spot in spots:
            shift = _SHIFT * length(spot.values) * self.rng.choice([-1.0, 1.0], spot.values.shape)
            flat[spot.place] = np.zeros(spot.values.size)
            flat[spot.place][spot.index] = shift * moved[spot.place]
        return self._attempted(lambda: self.calls.losses(lambda place, output: _plus_at(place, output, flat)))

    # --- what a parameter does -----------------------------------------------------------------------------

    def _enters_nowhere_else(self, leaf: Leaf) -> bool:
        """Return whether a parameter affects the loss only through the outputs of its modules."""
        fixed = {place: self.recorded[place].output for place in self._places(leaf)}

        def visit(place: Place, output: Any) -> Any:
            return fixed[place].clone() if place in fixed else output

        for _ in range(_DRAWS):
            here = self.point[leaf.called]
            point = self._with(leaf, length(here) * self.rng.normal(size=here.shape))
            losses = self._attempted(partial(self.calls.losses, visit, point))
            if losses is None or not np.array_equal(losses, self.rest):
                return False
        return True

    def _uses(self, leaf: Leaf) -> Uses:
        """Return how a parameter enters the output of each of its calls; empty if any of them is unknown."""
        found = []
        for spot in self._spots_at(self._places(leaf)):
            factors = self._factors(leaf, spot)
            if factors is None:
                return []
            found.append((spot, factors))
        return found

    def _computed(self) -> dict[str, Weight]:
        """Return the weight that is computed from a parameter, for each parameter with such a weight.

        The module that uses this weight becomes the owner of the parameter.
        """
        found = {}
        for tensor, name, weight in computed_weights(self.graph.forward):
            for leaf in [leaf for leaf in self.leaves if leaf.tensor is tensor and not leaf.turned]:
                self.owners[leaf.called] = {name: weight.module}
                found[leaf.called] = weight
        return found

    def _factors_through(self, leaf: Leaf, spot: Spot, weight: Weight) -> Factors | None:
        """Return the factors of a parameter that a weight is computed from, if the weight enters affinely."""
        here = self.point[leaf.called]

        def weight_at(value: Array) -> Array:
            point = {**self.point, leaf.called: value}
            with self.graph.code.running("with a parameter changed"):
                return self.graph.run_at(point, lambda: plain(weight.value).copy())

        with suppress(RefusedError), may_fail():
            rest = weight_at(here)
            changes = [_SHIFT * length(here) * self.rng.normal(size=here.shape) for _ in range(_DRAWS)]
            tests = [(weight_at(here + c) - rest, self._rise(leaf, spot, c)) for c in changes]
            entry = Entry(spot.call, spot.layout, rest.shape, [], np.zeros(spot.call.output.shape))
            for factors in (factors for guess in GUESSES for factors in guess(entry)):
                if all(rise is not None and self._fits(factors, spot, c, rise) for c, rise in tests):
                    return through(factors, weight_at, here)
        return None

    def _factors(self, leaf: Leaf, spot: Spot) -> Factors | None:
        if leaf.called in self.weights:
            return self._factors_through(leaf, spot, self.weights[leaf.called])
        here = self.point[leaf.called]
        rise = self._rise(leaf, spot, np.ones(here.shape))
        changes = [_SHIFT * length(here) * self.rng.normal(size=here.shape) for _ in range(_DRAWS)]
        tests = [(c, r) for c in changes if (r := self._rise(leaf, spot, c)) is not None]
        if rise is None or len(tests) < len(changes):
            return None
        entry = Entry(spot.call, spot.layout, tuple(leaf.tensor.shape), list(leaf.padding), rise)
        for guess in GUESSES:
            for factors in guess(entry):
                own = turned(factors, here.shape) if leaf.turned else factors
                if all(self._fits(own, spot, *test) for test in tests):
                    return own
        return None

    def _fits(self, factors: Factors, spot: Spot, change: Array, rise: Array) -> bool:
        """Return whether J · change equals `rise`, by comparing their products with a random vector."""
        rise = spot.layout.split(rise)
        d = self.rng.normal(size=rise.shape)
        sums = factors.sums(d)
        off = abs(float((d * rise).sum()) - float((sums * change).sum()))
        terms = float(np.abs(d * rise).sum() + np.abs(sums * change).sum())
        return off <= _TOLERANCE * terms + _ROUNDINGS * EPS * float(np.abs(d * spot.values).sum())

    def _rise(self, leaf: Leaf, spot: Spot, change: Array) -> Array | None:
        """Return the change of a call's output if a parameter changes; None if the call fails."""
        call = spot.call

        def run() -> Array:
            return plain((call.again(self.graph.torch) - call.output).cpu())

        rise = self._attempted(lambda: self.graph.run_at(self._with(leaf, change), run))
        return rise if rise is not None and rise.shape == tuple(call.output.shape) else None

    def _with(self, leaf: Leaf, change: Array) -> Mapping[str, Array]:
        return {**self.point, leaf.called: self.point[leaf.called] + change}

    def _attempted(self, run: Callable[[], Array]) -> Array | None:
        """Return the result of `run`; None if the code fails, since the change may be the reason."""
        with suppress(RefusedError), may_fail(), self.graph.code.running("with a parameter changed"):
            return run()
        return None


def _plus_at(place: Place, output: Any, flat: Mapping[Place, Array]) -> Any:
    return shifted(output, flat[place]) if place in flat else output


def _layouts(shape: Shape, samples: int) -> Iterator[Layout]:
    """Yield each possible `Layout` with this many samples. The samples' axis may be merged with another."""
    yield from (Layout(shape, axis) for axis, size in enumerate(shape) if size == samples)
    if shape and shape[0] > samples and shape[0] % samples == 0:
        yield Layout((samples, shape[0] // samples, *shape[1:]), 0)
        yield Layout((shape[0] // samples, samples, *shape[1:]), 1)


def _may_have_sites(leaf: Leaf) -> bool:
    return leaf.storage.is_dense and not leaf.own.is_complex and leaf.tensor.numel() > 0


def _agree(first: Array, second: Array) -> bool:
    """Return whether two arrays of loss terms are the same, up to rounding."""
    allowed = _TOLERANCE * float(np.abs(first).sum() + np.abs(second).sum())
    return len(first) == len(second) and bool((np.abs(first - second) <= allowed).all())


def _owners(root: Module, tensor: Tensor, written_out: Mapping[str, Unrolled]) -> dict[str, Module]:
    """Return, by name, the modules that hold a parameter directly, or the parts if they are written out."""
    owners: dict[str, Module] = {}
    for name, module in root.named_modules():
        own = {own for own, each in module._parameters.items() if each is tensor}
        if own and name in written_out:
            parts = written_out[name].parts.items()
            owners |= {f"{name}.{part}": each.module for part, each in parts if own & set(each.parameters)}
        elif own:
            owners[name] = module
    return owners
