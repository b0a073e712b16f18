"""Present a network as an objective whose values, parameter entries and penalties can be perturbed.

The numerical side sees a network only through this objective. It gets the positions of variables and losses,
but never a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import combinations, product
from typing import cast
from weakref import proxy

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.moving.choices import Choices, choices_at
from gradcheck_cli.moving.entry_moves import SharedEntryMoves, entry_moves
from gradcheck_cli.moving.kinks import Convention, Numbered
from gradcheck_cli.moving.movables import BatchMoves, UnitMoves
from gradcheck_cli.moving.normalised import scaled_value
from gradcheck_cli.moving.part_rises import PartRises
from gradcheck_cli.moving.penalty_moves import PenaltyMoves
from gradcheck_cli.moving.rise_rounding import RiseRounding
from gradcheck_cli.moving.rises import Rises
from gradcheck_cli.moving.rising_entries import RisingEntries
from gradcheck_cli.moving.rising_units import RisingPartUnits, RisingUnits
from gradcheck_cli.moving.short_moves import Near
from gradcheck_cli.moving.sites import places
from gradcheck_cli.moving.wide_floats import ARE_WIDER, widened
from gradcheck_cli.network.factors import Factors
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.numerical.objective import Corner, Movable, Site, Use, can_rise
from gradcheck_cli.types import Array, Shape

_MOST_WIDE = 2**25
"""The largest number of multiplications per step in wide floats. This many take well under a second."""


_STEPS_WITHOUT_RISES = 2
"""The number of steps that most slopes need if the rises of the losses are unknown. With rises, it is 1."""


class NetworkObjective(AtRest):
    """A network at its parameters and data, as an objective for finite differences.

    A site is the index of a value in the graph: the output of a step that is affine in its parameters.
    """

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

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self.network.shapes

    @cached_property
    def _uses(self) -> dict[str, tuple[Use, ...]]:
        return {}

    @cached_property
    def _near(self) -> dict[Site, Near]:
        return {}

    @cached_property
    def _entries(self) -> dict[str, Movable]:
        return {}

    def entries(self, name: str) -> Movable:
        if name not in self._entries:  # its rounding bounds serve every look, the witness's too
            self._entries[name] = self._entry_moves(name)
        return self._entries[name]

    def _entry_moves(self, name: str) -> Movable:
        ((i, own), *others) = self.graph.uses[name]
        if others:
            return SharedEntryMoves(self._weakly, i + 1, self._near_of(i + 1), own, name)
        return entry_moves(self._weakly, i + 1, self._near_of(i + 1), own, by_parts=self.literally(name))

    @cached_property
    def _quick_entries(self) -> dict[str, Movable]:
        return {}

    def quick_entries(self, name: str) -> Movable:
        if name not in self._quick_entries:
            self._quick_entries[name] = self._quick_entry_moves(name)
        return self._quick_entries[name]

    def _quick_entry_moves(self, name: str) -> Movable:
        ((i, own), *others) = self.graph.uses[name]
        if others or not self.literally(name):
            return self.entries(name)
        rises = PartRises(self._weakly, i + 1, self._rise_rounding)
        moves = RisingEntries(self._weakly, i + 1, self._near_of(i + 1), own, rises)
        return moves if moves.known else self.entries(name)

    @property
    def _weakly(self) -> NetworkObjective:
        """A weak reference to this objective, for everything that the objective caches.

        With a strong one, a large objective would stay in memory until Python looks for cycles.
        """
        return cast(NetworkObjective, proxy(self))

    def penalty(self, name: str) -> Movable | None:
        penalties = self.network.penalties_on(name)
        if not penalties:
            return None
        sign = self.convention.penalty if self.convention else None
        return PenaltyMoves(self.parameters[name], penalties, sign)

    def uses(self, name: str) -> tuple[Use, ...]:
        """Return every site that the parameter enters, and how the parameter enters the site.

        Examples of sites are z = a wᵀ + b of a dense layer with input a, and y = γ ẑ + β of a normalisation.
        If copies of z enter products, as they do in attention, the sites are the products.

        The result is empty if any step that uses the parameter is not affine in the parameter. In that case,
        only the parameter's entries can be perturbed.
        """
        if name not in self._uses:
            nodes = self.graph.uses[name]
            factors = (self._factors(i, own) for i, own in nodes)
            found = list(zip(self._sites_of([i + 1 for i, _ in nodes]), factors, strict=True))
            uses = [Use(site, factors) for site, factors in found if factors is not None]
            self._uses[name] = self._placed(uses) if len(uses) == len(found) else ()
        return self._uses[name]

    def _placed(self, uses: list[Use]) -> tuple[Use, ...]:
        """Return the uses, with each site replaced by the products that its copies enter.

        If an entry would then use a product twice, the uses are returned unchanged.
        """
        above = [each for use in uses for each in places(self.graph, self.values, use)]
        return tuple(uses if self._repeat_an_entry(above) else above)

    def _repeat_an_entry(self, uses: list[Use]) -> bool:
        """Return whether any entry uses a site twice."""
        pairs = [(one, other) for one, other in combinations(uses, 2) if one.site == other.site]
        return any((self._reached(one) & self._reached(other)).any() for one, other in pairs)

    def _reached(self, use: Use) -> Array:
        """Return a mask of the entries that affect the site."""
        reached: Array = use.factors.sizes(np.ones(self.site_shape(use.site))) > 0
        return reached

    def _sites_of(self, values: list[Site]) -> list[Site]:
        """Return the sum that each value enters, if no two of the sums are the same; otherwise, the values.

        A value and the sum that it enters have the same slopes. The errors of one site are not independent of
        each other, so a parameter must not use a site twice.
        """
        sums = [self._sum_of(value) for value in values]
        return sums if len(set(sums)) == len(sums) else values

    def _sum_of(self, value: Site) -> Site:
        """Return the sum that a value enters, if nothing else reads the value; otherwise, the value itself.

        The sum and the value have the same slopes. Several steps may share such a sum, as the two products of
        an LSTM do.
        """
        readers = self.graph.readers[value]
        node = self.graph.nodes[readers[0]] if len(readers) == 1 else None
        if node is None or not isinstance(node.step, Add) or node.inputs.count(value) > 1:
            return value
        return self._sum_of(readers[0] + 1)

    def _factors(self, i: int, own: str) -> Factors | None:
        node = self.graph.nodes[i]
        return node.step.factors(own, tuple(self.values[k] for k in node.inputs))

    @cached_property
    def _units(self) -> dict[Site, Movable]:
        return {}

    def units(self, site: Site) -> Movable:
        if site not in self._units:
            self._units[site] = self._unit_moves(site)
        return self._units[site]

    def _unit_moves(self, site: Site) -> Movable:
        at = self._weakly, site, self._near_of(site)
        if self.graph.couples_above(site):
            return BatchMoves(*at)
        rises = Rises(at[-1], self._rise_rounding)
        if rises.known:
            return RisingUnits(*at, rises)
        by_parts = PartRises(self._weakly, site, self._rise_rounding)
        return RisingPartUnits(*at, by_parts) if by_parts.known else UnitMoves(*at)

    def site_shape(self, site: Site) -> tuple[int, int]:
        return math.prod(self.graph.value_features[site]), len(self.target)

    def literally(self, name: str) -> bool:
        """Return whether perturbing the parameter's entries is cheaper than perturbing its sites' elements.

        Each entry needs the whole batch. Each element needs only its own sample, unless a later step couples
        the samples. The rises of the losses after a change of an entry are unknown if the entry is used
        several times.
        """
        sites = {use.site for use in self.uses(name)}
        if not sites:
            return True
        numbers = sum(self.site_shape(site)[0] * self.batches(site) for site in sites)
        entries = max(self._entries_of(i) for i, _ in self.graph.uses[name])
        if len(self.graph.uses[name]) > 1 and all(can_rise(self.units(site)) for site in sites):
            entries *= _STEPS_WITHOUT_RISES
        return entries < numbers

    def batches(self, site: Site) -> int:
        return len(self.target) if self.graph.couples_above(site) else 1

    def _entries_of(self, i: int) -> int:
        """Return the number of entries of all parameters of node i."""
        return sum(math.prod(shape) for shape in self.graph.nodes[i].step.shapes.values())

    def work_of_entry(self, name: str) -> int:
        """Return the number of values to compute again after perturbing one entry of the parameter."""
        first = min(i for i, _ in self.graph.uses[name])
        return len(self.target) * self._values_from(first + 1)

    def work_of_unit(self, site: Site) -> int:
        """Return the number of values to compute again after perturbing one element of the site."""
        samples = len(self.target) if self.graph.couples_above(site) else 1
        return samples * self._values_from(site)

    def _values_from(self, value: int) -> int:
        """Return the number of features of a value and of all values that depend on it."""
        features = self.graph.value_features
        return sum(math.prod(features[k]) for k in (value, *(i + 1 for i in self.graph.above(value))))

    def _near_of(self, site: Site) -> Near:
        """Return a `Near` for the site's value or, if batch normalisation follows, for its output γ ẑ + β."""
        if site not in self._near:
            scaled = scaled_value(self, site)
            self._near[site] = Near(self._weakly, site if scaled is None else scaled)
        return self._near[site]

    @cached_property
    def _rise_rounding(self) -> RiseRounding:
        return RiseRounding(self._weakly)

    @cached_property
    def widest(self) -> NetworkObjective | None:
        """The same objective in the widest floating-point type available, with far smaller rounding errors.

        Elements next to a kink keep their smooth pieces, so that steps may be long.

        The result is None if that type is no wider than float64, or if the evaluations would take too long.
        """
        if not ARE_WIDER or len(self.x) * self._multiplications() > _MOST_WIDE:
            return None
        at = self.network, *widened(self), self.arithmetic, self.convention
        return NetworkObjective(*at, holds=True)

    def _multiplications(self) -> int:
        """Return the number of multiplications per sample for perturbing every element of every site once."""
        total, above, features = 0, 0, self.graph.value_features
        for i in reversed(range(len(self.graph.nodes))):
            node = self.graph.nodes[i]
            own = node.step.multiplications(*(features[k] for k in node.inputs))
            total += math.prod(features[i + 1]) * max(above, 1) if own else 0
            above += own
        return total * (len(self.x) if self.graph.couples_above(0) else 1)

    @cached_property
    def conventions(self) -> tuple[NetworkObjective, ...]:
        """The same objective under each common convention for elements on a kink.

        The result is empty if no element is on a kink.
        """
        if self.convention is not None or not self.kinks.any:
            return ()
        sides = product(
            (0.0, 0.5, 1.0) if self.kinks.of_slopes else (0.0,),
            (0.0, 0.5, 1.0) if self.kinks.of_ties else (0.0,),
            self.network.loss.sides if self.kinks.in_loss else (0.0,),
            (-1.0, 0.0, 1.0) if self.kinks.in_penalty else (0.0,),
        )
        return tuple(self._under(Convention(*side)) for side in sides)

    def corners(self, name: str) -> tuple[Corner, ...]:
        """Return every choice of sides for the shared groups of kinks, with the sides of the single kinks.

        A shared group is on the same side in all samples. A single kink has a side of its own. Only the kinks
        that affect the parameter's gradient count: those in steps that depend on a site of the parameter.

        The result is empty if there are too many choices to evaluate. At the tip of a cone, planes that
        enclose the cone are the sides.
        """
        sites = self._perturbed(name)
        above = frozenset(self.graph.above(*sites))
        key = above.intersection(self.kinks.of_nodes), any(map(self.graph.couples_above, sites))
        if key not in self._corners:
            self._corners[key] = self._corners_at(self.kinks.numbered(nodes=key[0], coupled=key[1]))
        return self._corners[key]

    def _corners_at(self, numbered: Numbered) -> tuple[Corner, ...]:
        sides = self.network.loss.sides or (0.0,)
        found = choices_at(numbered, float(sides[0]))
        return tuple(self._corner(each, numbered.in_sample) for each in found)

    @cached_property
    def _corners(self) -> dict[tuple[frozenset[int], bool], tuple[Corner, ...]]:
        return {}

    def _perturbed(self, name: str) -> set[Site]:
        """Return the values that are perturbed to differentiate with respect to a parameter."""
        sites = {use.site for use in self.uses(name)}
        return sites or {i + 1 for i, _ in self.graph.uses[name]}

    def _corner(self, choices: Choices, in_sample: bool) -> Corner:
        single = tuple(tuple(map(self._under, of)) for of in choices.single)
        return Corner(self._under(choices.base), single, in_sample)

    def _under(self, convention: Convention) -> NetworkObjective:
        at = (self.network, self.parameters, self.x, self.target, self.arithmetic)
        return NetworkObjective(*at, convention, self.values)
