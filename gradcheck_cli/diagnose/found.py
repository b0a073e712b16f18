"""The author's gradients, and the values of a mistake's unknown quantity that fit these gradients best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnose.fit import NOTHING, affine, projected, unlike
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import RIGHT, TENSORS, Part, Site, penalty_on
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_scales import is_same
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Found:
    """The author's gradients of a network, by parameter name."""

    problem: Problem
    targets: Mapping[str, Target]

    @cached_property
    def values(self) -> dict[str, Array]:
        return {name: target.found for name, target in self.targets.items()}

    @cached_property
    def of_data(self) -> dict[str, Array]:
        """The author's gradients minus the correct penalty terms, by parameter name."""
        return {name: target.found - self.penalties[name] for name, target in self.targets.items()}

    @cached_property
    def penalties(self) -> dict[str, Array]:
        """The terms that the correct penalties add to each parameter's gradient."""
        return {name: penalty_on(self.problem, name) for name in self.problem.network.shapes}

    @cached_property
    def penalized(self) -> frozenset[str]:
        """The parameters with a nonzero penalty term."""
        return frozenset(name for name, penalty in self.penalties.items() if penalty.any())

    def of_layer(self, site: Site) -> list[tuple[Part, str]]:
        """Return the checked parameters of the site's layer, as pairs (part of backprop, parameter name)."""
        named = [(part, f"{site.layer.name}.{suffix}") for part, suffix in TENSORS.items()]
        return [(part, name) for part, name in named if name in self.targets]

    def unknowns(self, at_zero: Site, at_one: Site) -> list[float]:
        """Return the values of the unknown that best fit the layer's gradients.

        One of these values is the best fit to all gradients together; each other value is the best fit to a
        single gradient.

        at_zero, at_one: the site with the unknown at 0 and at 1. The gradients are affine in the unknown.
        """
        names = self.of_layer(at_zero)
        parts = [(self.of_data[name], RIGHT[part](at_zero), RIGHT[part](at_one)) for part, name in names]
        values = [affine(*(np.concatenate([p[k].ravel() for p in parts]) for k in range(3)))] if parts else []
        values += [affine(*(each.ravel() for each in part)) for part in parts if len(parts) > 1]
        return unlike([value for value in values if np.isfinite(value)])

    def solved(self, unknown: Mistake, site: Site) -> list[float]:
        """Return the values that the mistake's own solver proposes.

        The solver receives Σₙ ∂L/∂yₙ: the gradient of the layer's bias or, if the layer has batch
        normalisation, the gradient of β.
        """
        name = site.layer.bias if site.layer.batch_norm is None else site.layer.beta
        if unknown.solver is None or name not in self.targets:
            return []
        return list(unknown.solver(site, self.of_data[name]))

    def factors(self, site: Site) -> list[float]:
        """Return the factors that best fit each of the layer's gradients.

        Each gradient is fitted both with its penalty and without it.
        """
        factors = []
        for part, name in self.of_layer(site):
            data = RIGHT[part](site)
            factors.append(projected(self.of_data[name], data))
            if name in self.penalized:
                factors.append(projected(self.targets[name].found, data + self.penalties[name]))
        return unlike([f for f in factors if np.isfinite(f) and abs(f) > NOTHING and not is_same(f, 1.0)])
