"""Present a network as an objective whose pre-activations, entries and penalties can be perturbed.

The numerical side sees nothing else of a network: positions and losses, never a derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import combinations, product

import numpy as np

from gradcheck_cli.model.at_rest import AtRest, Convention
from gradcheck_cli.model.moves import ENTRY_MOVES, BatchMoves, UnitMoves
from gradcheck_cli.model.near import Near
from gradcheck_cli.model.penalties import PENALTIES
from gradcheck_cli.model.penalty_moves import PenaltyMoves
from gradcheck_cli.numerical.objective import Affine, Movable, Shape, Site

_EPS = float(np.finfo(np.float64).eps)

_MOST_KINKS = 64
"""If more kinks meet in a sample, finding the values between all their sides costs too many evaluations."""

_MOST_CORNERS = 5
"""The largest number of kink groups for which all combinations of sides are tried: 2⁵ = 32."""

_MOST_WIDE = 2**25
"""The most multiplications per step in wide floats, which are slow; this many take well under a second."""


class NetworkObjective(AtRest):
    """A network at its parameters and data, as an objective to difference."""

    tells_kinks = True

    @cached_property
    def total(self) -> float:
        """The loss of the whole batch, penalties included."""
        with np.errstate(over="ignore"):  # the caller refuses results that are not finite
            return self.losses.sum() + sum(
                PENALTIES[penalty].value(self.parameters[name], strength).sum()
                for name in self.network.shapes
                for penalty, strength in self.network.penalties_on(name).items()
            )

    @cached_property
    def _near(self) -> dict[int, Near]:
        return {}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {layer.name: i for i, layer in enumerate(self.network.layers)}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self.network.shapes

    def entries(self, name: str) -> Movable:
        layer, kind = name.rsplit(".", 1)
        i = self._index[layer]
        return ENTRY_MOVES[kind](self, i, self._near_of(i), name)

    def penalty(self, name: str) -> Movable | None:
        penalties = self.network.penalties_on(name)
        if not penalties:
            return None
        sign = self.convention.penalty if self.convention else None
        return PenaltyMoves(self.parameters[name], penalties, sign)

    def affine(self, name: str) -> Affine:
        """Return how a parameter enters its layer.

        Weight and bias enter in z = a⁽ʰ⁾ wᵀ + b, gamma and beta in y = γ ẑ + β.
        """
        layer, kind = name.rsplit(".", 1)
        i = self._index[layer]
        normalised = self.activity.normalised[i]
        if kind == "gamma" and normalised is not None:
            return Affine((layer, "y"), normalised.value, own_unit=True)
        if kind == "beta":
            return Affine((layer, "y"), None)
        return Affine((layer, "z"), self.activity.inputs[i] if kind == "weight" else None)

    def units(self, site: Site) -> Movable:
        layer, kind = site
        i = self._index[layer]
        normalising = [layer.batch_norm is not None for layer in self.network.layers[i:]]
        if normalising[0] and kind == "y":
            normalising = normalising[1:]
        near = self._near_of(i)
        return BatchMoves(self, i, near, kind) if any(normalising) else UnitMoves(self, i, near)

    def better_literally(self, name: str) -> bool:
        """Return whether perturbing this parameter's entries costs less than perturbing its site.

        That is so if batch normalisation couples the samples and a unit has fewer entries than there are
        samples: each perturbation then carries the whole batch along.
        """
        site = self.affine(name).site
        layer = self.network.layers[self._index[site[0]]]
        return isinstance(self.units(site), BatchMoves) and layer.inputs + 1 < len(self.target)

    def _near_of(self, i: int) -> Near:
        if i not in self._near:
            self._near[i] = Near(self, i)
        return self._near[i]

    @cached_property
    def widest(self) -> NetworkObjective | None:
        """The same objective in the widest floating point available, whose rounding is much finer.

        None if that is float64 itself, or if it would take too long.
        """
        multiplications, above = 0, 0
        for layer in reversed(self.network.layers):
            multiplications += layer.units * max(above, 1)
            above += layer.units * layer.inputs
        if any(layer.batch_norm is not None for layer in self.network.layers):
            multiplications *= len(self.x)  # every perturbation carries the whole batch along
        fine = float(np.finfo(np.longdouble).eps) < _EPS / 1000
        if not fine or len(self.x) * multiplications > _MOST_WIDE:
            return None
        parameters = {name: value.astype(np.longdouble) for name, value in self.parameters.items()}
        x, target = self.x.astype(np.longdouble), self.target.astype(np.longdouble)
        return NetworkObjective(self.network, parameters, x, target, self.arithmetic, self.convention)

    @cached_property
    def conventions(self) -> tuple[NetworkObjective, ...]:
        """The same objective under every common convention for numbers on a kink; empty if there are none."""
        if self.convention is not None or not self.kinks.any:
            return ()
        sides = product(
            (0.0, 0.5, 1.0) if self.kinks.in_activations else (0.0,),
            self.network.loss.sides if self.kinks.in_loss else (0.0,),
            (-1.0, 0.0, 1.0) if self.kinks.in_penalty else (0.0,),
        )
        return tuple(self._under(Convention(*side)) for side in sides)

    @cached_property
    def corners(self) -> tuple[NetworkObjective, ...]:
        """The objective under every choice of side for each group of kinks; empty if there are too many."""
        if self.numbered.count > _MOST_CORNERS:
            return ()
        numbers = range(self.numbered.count)
        return tuple(
            self._under(replace(self._left, others=others))
            for size in range(len(numbers) + 1)
            for others in combinations(numbers, size)
        )

    @cached_property
    def one_by_one(self) -> tuple[NetworkObjective, ...]:
        """The objective with all kinks on their left, then with each of a sample's kinks alone on its right.

        Empty if these do not determine the result of every choice, or if there are too many.
        """
        if self.numbered.count > _MOST_KINKS or not self.numbered.parallel:
            return ()
        each = [(), *((number,) for number in range(self.numbered.count))]
        return tuple(self._under(replace(self._left, others=others)) for others in each)

    @property
    def _left(self) -> Convention:
        return Convention(0.0, self.network.loss.sides[0] if self.network.loss.sides else 0.0)

    def _under(self, convention: Convention) -> NetworkObjective:
        at = (self.network, self.parameters, self.x, self.target, self.arithmetic)
        return NetworkObjective(*at, convention)
