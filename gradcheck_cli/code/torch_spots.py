"""Perturb the sites of a torch module, by many features at once where `torch.func.vmap` can run the module.

With vmap, only what depends on the perturbed site is computed once for each feature. The rest of the forward
pass is computed once for all features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.objective import length
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.torch_calls import Call, Calls, Place, Tensor, unchanged
from gradcheck_cli.code.torch_factors import Layout
from gradcheck_cli.numerical.objective import Factors, Site, Use
from gradcheck_cli.types import Array

_MOST_FEATURES, _MOST_NUMBERS = 64, 2**18
"""The largest number of features to perturb at once, and of elements of all copies of a site's output.

Larger arrays leave the processor's cache, and take no less time for each feature.
"""

_TRIED = 2
"""The number of features to perturb at once in a test."""

_SHIFT, _TOLERANCE = 2.0**-4, 1e-11
"""The size of a shift in a test, relative to the output, and the allowed relative deviation of a loss."""


@dataclass(frozen=True)
class Spot:
    """A recorded call, with its output split into F features of N samples.

    terms: the indices of the k loss terms that each sample affects, (N, k).
    """

    place: Place
    call: Call
    layout: Layout
    terms: Array

    @cached_property
    def values(self) -> Array:
        return self.layout.split(plain(self.call.output.cpu()))

    @cached_property
    def index(self) -> Array:
        """The flat index of each element of the output, (F, N)."""
        return self.layout.split(np.arange(self.call.output.numel()))

    @property
    def cost(self) -> int:
        """The number of forward passes needed to perturb every element of the output once."""
        return len(self.values)

    def changes(self, features: Sequence[int], shifts: Array) -> Array:
        """Return the change of the output for each of K features, in the output's shape, (K, …).

        shifts: the shift of each sample of each feature, (K, N).
        """
        flat = np.zeros((len(features), self.call.output.numel()))
        for row, feature, shift in zip(flat, features, shifts, strict=True):
            row[self.index[feature]] = shift
        return flat.reshape(-1, *self.call.output.shape)


Passes = Callable[[Calls, Place, Array], Array]
"""A function that runs the module once for each of K changes of a call's output.

The function takes the changes, (K, …), and returns the S loss terms of each run, (K, S).
"""


def one_by_one(calls: Calls, place: Place, changes: Array) -> Array:
    """Run one forward pass for each change."""
    return np.stack([calls.losses(partial(_changed, place, change)) for change in changes])


def _changed(place: Place, change: Array, at: Place, output: Tensor) -> Tensor:
    return shifted(output, change) if at == place else output


def shifted(output: Tensor, change: Array) -> Tensor:
    """Return the output plus a change, given as an array with as many elements."""
    return output + output.new_tensor(change).reshape(output.shape)


def together(calls: Calls, place: Place, changes: Array) -> Array:
    """Run a single forward pass for all changes."""
    return calls.losses_of_copies(place, changes, copies_buffers=False)


def together_with_buffers(calls: Calls, place: Place, changes: Array) -> Array:
    """Run a single forward pass for all changes, with a copy of the module's buffers for each of them.

    The copies allow a module to update its buffers in place, such as batch normalisation in training mode.
    """
    return calls.losses_of_copies(place, changes, copies_buffers=True)


def passes_of(calls: Calls, spot: Spot, rest: Array, rng: np.random.Generator) -> Passes:
    """Return the fastest way to perturb several features of a spot that gives the right losses.

    rest: the S loss terms if nothing is perturbed.
    """
    features = rng.integers(len(spot.values), size=_TRIED)
    shifts = _SHIFT * length(spot.values)[features] * rng.normal(size=(_TRIED, len(spot.terms)))
    changes = spot.changes(list(features), shifts)
    with suppress(RefusedError), may_fail():
        expected = one_by_one(calls, spot.place, changes)
        for passes in (together, together_with_buffers):
            with suppress(RefusedError), may_fail():
                found = passes(calls, spot.place, changes)
                if _agree(found, expected) and _agree(calls.losses(unchanged), rest):
                    return passes
    return one_by_one


def _agree(found: Array, expected: Array) -> bool:
    """Return whether two arrays of loss terms are the same, up to rounding."""
    allowed = _TOLERANCE * np.abs(expected).sum(axis=-1, keepdims=True)
    return found.shape == expected.shape and bool((np.abs(found - expected) <= allowed).all())


Uses = list[tuple[Spot, Factors]]
"""For one parameter: each call that the parameter enters, with the parameter's factors in its output."""


@dataclass(frozen=True)
class TorchSites:
    """The verified sites of a graph, as `Sites`.

    passes: for each spot, the way to perturb several features.
    """

    calls: Calls
    spots: Sequence[Spot]
    uses: Mapping[str, Sequence[Use]]
    at_rest: Array
    passes: Sequence[Passes]

    why_none: ClassVar[str] = ""

    def values(self, site: Site) -> Array:
        return self.spots[site].values

    def terms(self, site: Site) -> Array:
        return self.spots[site].terms

    def at_once(self, site: Site) -> int:
        return max(1, min(_MOST_FEATURES, _MOST_NUMBERS // self.spots[site].values.size))

    def rest(self) -> Array:
        return self.at_rest

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        return self.calls.losses(unchanged, parameters)

    def shifted(self, site: Site, features: Sequence[int], shifts: Array) -> Array:
        spot = self.spots[site]
        passes = self.passes[site] if len(features) > 1 else one_by_one
        return passes(self.calls, spot.place, spot.changes(features, shifts))
