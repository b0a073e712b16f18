"""The floor: the least time that one plain central pass by units can take on this machine.

For every pair (sample n, unit j) whose pre-activation is perturbed, once up and once down, each value that
changes has to be computed again:

- the unit's own activation and those of every layer above, and for a loss with logits the C exponentials of
the   sample (one, if the unit itself is a logit): at the rate of that function in place on an array of 1 MiB;
- the pre-activations from the second layer above on, as matrix products: at the dgemm rate of 512³. Those of
the   next layer change by a multiple of a column of its weights, which counts as free;

In addition, δᵀ a of every weight is computed once, at the dgemm rate. A relu unit that is off changes
nothing, whether it is perturbed itself or is in a layer above. Additions, copies and memory traffic count as
free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from gradcheck_cli.network.network import forward
from gradcheck_cli.problem.problem import Problem

Array = np.ndarray

_NUMBERS = 2**17
"""1 MiB of float64 numbers."""

_SIDE = 512
"""Side of the square matrices whose product gives the dgemm rate."""

_RUNS = 25


def _sigmoid(z: Array) -> None:
    np.negative(z, out=z)
    np.exp(z, out=z)
    np.add(z, 1.0, out=z)
    np.divide(1.0, z, out=z)


_ZEROS = np.zeros(_NUMBERS)

IN_PLACE: dict[str, Callable[[Array], object]] = {
    "sigmoid": _sigmoid,
    "tanh": lambda z: np.tanh(z, out=z),
    "relu": lambda z: np.maximum(z, _ZEROS, out=z),
    "exp": lambda z: np.exp(z, out=z),
}


@dataclass(frozen=True)
class Rates:
    """The measured rates of this machine.

    evaluations: seconds per evaluation, by function name.
    flop: seconds per operation of dgemm.
    """

    evaluations: dict[str, float]
    flop: float

    def __str__(self) -> str:
        functions = ", ".join(f"{name} {1e9 * each:.2f} ns" for name, each in self.evaluations.items())
        return f"{functions}; dgemm {1e-9 / self.flop:.1f} Gflop/s"


@dataclass(frozen=True)
class Work:
    """The work of one plain central pass.

    evaluations: the number of evaluations of each function, by name.
    flops: the operations of the matrix products above, and of the assembly.
    """

    evaluations: Counter[str]
    flops: int

    def seconds(self, rates: Rates) -> float:
        return self.flops * rates.flop + sum(
            count * rates.evaluations[name] for name, count in self.evaluations.items()
        )


def work(problem: Problem) -> Work:
    """Return the work of a network with activations in `IN_PLACE` or identity and no batch normalisation."""
    layers, live = problem.network.layers, _live(problem)
    exponentials = layers[-1].units if problem.network.loss.applies else 0
    evaluations: Counter[str] = Counter()
    products = assembly = 0
    for i, layer in enumerate(layers):
        top, pairs = i + 1 == len(layers), live[i]
        evaluations[layer.activation.name] += int(pairs.sum())
        for above, changing in zip(layers[i + 1 :], live[i + 1 :], strict=True):
            evaluations[above.activation.name] += int((pairs * changing).sum())
        evaluations["exp"] += int(pairs.sum()) * (min(exponentials, 1) if top else exponentials)
        products += 2 * int(pairs.sum()) * sum(above.inputs * above.units for above in layers[i + 2 :])
        assembly += 2 * len(problem.x) * layer.inputs * layer.units
    both = Counter({name: 2 * n for name, n in evaluations.items() if n and name != "identity"})
    return Work(both, 2 * products + assembly)


def _live(problem: Problem) -> list[Array]:
    """Return how many units of each layer change if the units below them change: an array (N,) per layer."""
    activity = forward(problem.network, problem.parameters, problem.x)
    return [
        (y > 0).sum(axis=1) if layer.activation.flat_left else np.full(len(y), layer.units)
        for layer, y in zip(problem.network.layers, activity.y, strict=True)
    ]


def measured_rates() -> Rates:
    """Measure the rates. The best of several runs counts, because a floor assumes an idle machine."""
    z = np.random.default_rng(0).standard_normal(_NUMBERS)
    each = {name: _best(function, z) / _NUMBERS for name, function in IN_PLACE.items()}
    a = np.random.default_rng(1).standard_normal((_SIDE, _SIDE))
    out = np.empty_like(a)
    return Rates(each, _best(lambda m: np.matmul(m, m, out=out), a) / (2 * _SIDE**3))


def _best(function: Callable[[Array], object], values: Array) -> float:
    """Return the seconds that function(values) takes. The function may overwrite the values."""
    buffer, least = np.empty_like(values), float("inf")
    for _ in range(_RUNS):
        np.copyto(buffer, values)
        start = perf_counter()
        function(buffer)
        least = min(least, perf_counter() - start)
    return least
