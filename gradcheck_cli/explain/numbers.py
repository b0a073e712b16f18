"""The numbers of a derivation: gradients, bounds on their rounding errors, and finite differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.backprop import sweep
from gradcheck_cli.network.graph import INPUT, Graph
from gradcheck_cli.network.rounding import Rounding, gradient_rounding, rounding_of
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.numerical.reference import Estimates, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES, Scheme
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.types import Array, precision_of

MOST = 2**14
"""The largest number of entries of ∂L/∂value to check. In larger arrays, only the first samples count."""


@dataclass(frozen=True)
class Numbers:
    """A problem with its analytic gradients, and all arrays that a derivation compares.

    how: the settings of the check.
    """

    problem: Problem
    analytic: Analytic
    how: CheckSpec

    @property
    def graph(self) -> Graph:
        return self.problem.network.graph

    @cached_property
    def values(self) -> tuple[Array, ...]:
        return self.problem.objective.values

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The least precise dtype among the gradients; float64 for a layer without parameters."""
        dtypes = self.analytic.dtypes.values()
        return max(dtypes, key=lambda dtype: precision_of(dtype).eps, default=np.dtype(np.float64))

    @cached_property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic.of(self.dtype, held=self.problem.dtype)

    @cached_property
    def upstream(self) -> tuple[Array, ...]:
        """∂L/∂value, computed by gradcheck's own backprop, for x and for the output of every node."""
        problem, network = self.problem, self.problem.network
        dL_dout = network.coefficient * network.loss.gradient(self.values[-1], problem.target)
        swept = {at.node: at.upstream for at in sweep(self.graph, problem.parameters, self.values, dL_dout)}
        return (self._of_x(swept), *(swept[i] for i in range(len(swept))))

    def _of_x(self, swept: Mapping[int, Array]) -> Array:
        total = np.zeros_like(self.values[INPUT])
        for i in self.graph.readers[INPUT]:
            node = self.graph.nodes[i]
            inputs, p = tuple(self.values[k] for k in node.inputs), node.own(self.problem.parameters)
            handed, _ = node.step.vjp(p, inputs, self.values[i + 1], swept[i])
            shares = zip(node.inputs, handed, strict=True)
            total = total + sum(share for k, share in shares if k == INPUT)
        return total

    @cached_property
    def bounds(self) -> Rounding:
        problem = self.problem
        return rounding_of(problem.network, problem.parameters, problem.x, problem.target, self.arithmetic)

    @cached_property
    def of_parameters(self) -> Mapping[str, Array]:
        """Bounds on the rounding error of each parameter's gradient, by parameter name."""
        problem = self.problem
        return gradient_rounding(
            problem.network, problem.parameters, problem.x, problem.target, self.arithmetic
        )

    @property
    def scheme(self) -> Scheme:
        return SCHEMES[self.how.scheme]

    @cached_property
    def whole(self) -> Estimates:
        """The finite-difference estimate of each checked parameter's gradient, by parameter name."""
        units = UnitDifferences(self.problem.objective, self.scheme, self.how.step)
        return units.estimate_by_whole_ladder(self.problem.checked)

    @cached_property
    def _differences(self) -> dict[tuple[int, int], Estimate]:
        return {}

    def samples(self, value: int) -> int:
        """Return how many samples of ∂L/∂value to check."""
        features = self.values[value][0].size
        return min(len(self.values[value]), max(1, MOST // features))

    def differences(self, value: int, samples: int) -> Estimate:
        """Return an estimate of ∂L/∂value for the first samples, (samples, *features)."""
        if (value, samples) not in self._differences:
            self._differences[value, samples] = self._differenced(value, samples)
        return self._differences[value, samples]

    def _differenced(self, value: int, samples: int) -> Estimate:
        features, count = self.problem.objective.site_shape(value)
        which = np.arange(features * count).reshape(features, count)[:, :samples]
        flat = differentiate(
            self.problem.objective.units(value), self.scheme, self.how.step, which=which.ravel()
        )
        shape = (samples, *self.values[value].shape[1:])
        by_feature = flat.reshape(features, samples)
        return Estimate(by_feature.value.T.reshape(shape), by_feature.error.T.reshape(shape))
