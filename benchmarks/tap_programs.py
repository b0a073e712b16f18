"""Random programs with taps for `taps.py`: a backward pass by hand, in which one mistake may be planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcheck_cli import tap

Array = NDArray[np.float64]
Gradients = tuple[Array, ...]

SAMPLES, WIDTH = 3, 4

VISIBLE = 1e-4
"""The smallest change of a gradient that counts as a mistake, relative to the largest entry of its tensor."""

LARGEST = 20.0
"""The largest result that a program may have."""


# --- operations -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """An operation on arrays of shape (SAMPLES, WIDTH).

    forward: a function of the inputs and then the weights.
    backward: takes the upstream, the output, and forward's arguments. Returns one gradient per argument.
    weights: the shapes of its weights.
    wrong: backward functions with a mistake, by the name of the mistake.
    """

    forward: Callable[..., Array]
    backward: Callable[..., Gradients]
    inputs: int = 1
    weights: tuple[tuple[int, ...], ...] = ()
    wrong: Mapping[str, Callable[..., Gradients]] = field(default_factory=dict)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def softmax_backward(d: Array, p: Array, z: Array) -> Gradients:
    return (p * (d - (d * p).sum(axis=1, keepdims=True)),)


def spread(z: Array, axis: int) -> Array:
    return np.asarray(np.sqrt(z.var(axis=axis, keepdims=True) + 0.1))


def normalised(axis: int) -> Operation:
    """Return a normalisation along an axis: layer norm along 1, batch norm along 0, both without weights."""

    def forward(z: Array) -> Array:
        return np.asarray((z - z.mean(axis=axis, keepdims=True)) / spread(z, axis))

    def backward(d: Array, out: Array, z: Array) -> Gradients:
        along = (d * out).mean(axis=axis, keepdims=True)
        return ((d - d.mean(axis=axis, keepdims=True) - out * along) / spread(z, axis),)

    def variance_constant(d: Array, out: Array, z: Array) -> Gradients:
        return ((d - d.mean(axis=axis, keepdims=True)) / spread(z, axis),)

    def mean_constant(d: Array, out: Array, z: Array) -> Gradients:
        return ((d - out * (d * out).mean(axis=axis, keepdims=True)) / spread(z, axis),)

    return Operation(
        forward, backward, wrong={"variance constant": variance_constant, "mean constant": mean_constant}
    )


def attend(q: Array, k: Array, v: Array) -> Array:
    return np.asarray(softmax(q @ k.T / 2.0) @ v)


def attend_backward(d: Array, out: Array, q: Array, k: Array, v: Array) -> Gradients:
    p = softmax(q @ k.T / 2.0)
    (scores,) = softmax_backward(d @ v.T, p, p)
    return scores @ k / 2.0, scores.T @ q / 2.0, p.T @ d


OPERATIONS: Mapping[str, Operation] = {
    "tanh": Operation(
        np.tanh,
        lambda d, a, z: (d * (1.0 - a**2),),
        wrong={"z for tanh(z)": lambda d, a, z: (d * (1.0 - z**2),)},
    ),
    "sigmoid": Operation(
        lambda z: 1.0 / (1.0 + np.exp(-z)),
        lambda d, a, z: (d * a * (1.0 - a),),
        wrong={"z for sigmoid(z)": lambda d, a, z: (d * z * (1.0 - z),)},
    ),
    "sin": Operation(
        np.sin, lambda d, a, z: (d * np.cos(z),), wrong={"sin": lambda d, a, z: (d * np.sin(z),)}
    ),
    "relu": Operation(
        lambda z: np.maximum(z, 0.0),
        lambda d, a, z: (d * (z > 0.0),),
        wrong={"mask of the upstream": lambda d, a, z: (d * (d > 0.0),)},
    ),
    "square": Operation(
        lambda z: 0.5 * z**2 + z,
        lambda d, a, z: (d * (z + 1.0),),
        wrong={"forgets the linear term": lambda d, a, z: (d * z,)},
    ),
    "softmax": Operation(
        softmax, softmax_backward, wrong={"diagonal alone": lambda d, p, z: (d * p * (1.0 - p),)}
    ),
    "layer norm": normalised(1),
    "batch norm": normalised(0),
    "sum to here": Operation(
        lambda z: np.cumsum(z, axis=1),
        lambda d, a, z: (np.cumsum(d[:, ::-1], axis=1)[:, ::-1],),
        wrong={"forgets to reverse": lambda d, a, z: (np.cumsum(d, axis=1),)},
    ),
    "roll": Operation(
        lambda z: np.roll(z, 1, axis=1),
        lambda d, a, z: (np.roll(d, -1, axis=1),),
        wrong={"wrong way": lambda d, a, z: (np.roll(d, 1, axis=1),)},
    ),
    "mean": Operation(
        lambda z: z + z.mean(axis=1, keepdims=True),
        lambda d, a, z: (d + d.mean(axis=1, keepdims=True),),
        wrong={"sum for mean": lambda d, a, z: (d + d.sum(axis=1, keepdims=True),)},
    ),
    "add": Operation(lambda a, b: a + b, lambda d, out, a, b: (d, d), inputs=2),
    "product": Operation(
        lambda a, b: a * b,
        lambda d, out, a, b: (d * b, d * a),
        inputs=2,
        wrong={"swapped": lambda d, out, a, b: (d * a, d * b)},
    ),
    "attention": Operation(
        attend,
        attend_backward,
        inputs=3,
        wrong={"q and k swapped": lambda *given: tuple(attend_backward(*given)[i] for i in (1, 0, 2))},
    ),
    "linear": Operation(
        lambda x, w, b: x @ w + b,
        lambda d, out, x, w, b: (d @ w.T, x.T @ d, d.sum(axis=0)),
        weights=((WIDTH, WIDTH), (WIDTH,)),
        wrong={
            "forgets the transpose": lambda d, out, x, w, b: (d @ w, x.T @ d, d.sum(axis=0)),
            "transposed": lambda d, out, x, w, b: (d @ w.T, d.T @ x, d.sum(axis=0)),
            "mean for bias": lambda d, out, x, w, b: (d @ w.T, x.T @ d, d.mean(axis=0)),
        },
    ),
    "gain": Operation(
        lambda x, g: x * g,
        lambda d, out, x, g: (d * g, (d * x).sum(axis=0)),
        weights=((WIDTH,),),
        wrong={"output for input": lambda d, out, x, g: (d * g, (d * out).sum(axis=0))},
    ),
}
"""The operations by name. Those with several inputs, or with weights, are drawn more often."""

LIKELY = ("linear", "linear", "gain", "add", "product", "attention", *OPERATIONS)

FACTORS = {"sign": -1.0, "half": 0.5, "twice": 2.0, "1 % off": 1.01, "detached": 0.0}


# --- programs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """An operation of a program. inputs: numbers of earlier nodes; x is number 0."""

    kind: str
    inputs: tuple[int, ...]
    weights: tuple[str, ...]
    tapped: bool

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.kind]


@dataclass(frozen=True)
class Mistake:
    """A mistake in the backward of one node.

    node: the number of the node.
    edges: the places that hold the mistake, as pairs of a node and the number of one of its arguments.
    backward: the wrong backward function of the node.
    replaces: the number of the argument whose gradient replaces the sum of the earlier ones, if one does.
    """

    name: str
    node: int
    edges: frozenset[tuple[int, int]]
    backward: Callable[..., Gradients]
    replaces: int | None = None


@dataclass(frozen=True)
class Program:
    """A random program: x is node 0, and node i is nodes[i - 1].

    The loss is the sum of sin over the results that no other node uses.
    """

    nodes: tuple[Node, ...]
    x: Array
    parameters: Mapping[str, Array]
    mistake: Mistake | None = None

    @property
    def ends(self) -> list[int]:
        used = {i for node in self.nodes for i in node.inputs}
        return [i for i in range(1, len(self.nodes) + 1) if i not in used]

    def forward(self, parameters: Mapping[str, Array]) -> list[Array]:
        """Return the value of every node."""
        values = [parameters["x"]]
        for number, node in enumerate(self.nodes, 1):
            value = node.operation.forward(*self.arguments(node, values, parameters))
            values.append(tap(f"t{number}", value) if node.tapped else value)
        return values

    def arguments(self, node: Node, values: Sequence[Array], parameters: Mapping[str, Array]) -> list[Array]:
        return [*(values[i] for i in node.inputs), *(parameters[name] for name in node.weights)]

    def backward(
        self, upstream: Mapping[int, Array], values: Sequence[Array], parameters: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return the gradients of x, the weights and the taps.

        upstream: the upstream gradient of each result that no other node uses, by its number.
        """
        deltas = [upstream[i].copy() if i in upstream else np.zeros_like(v) for i, v in enumerate(values)]
        gradients = {}
        for number, node in reversed(list(enumerate(self.nodes, 1))):
            if node.tapped:
                gradients[f"t{number}"] = deltas[number].copy()
            found = self._backward_of(number)(
                deltas[number], values[number], *self.arguments(node, values, parameters)
            )
            for place, (i, gradient) in enumerate(zip(node.inputs, found, strict=False)):
                replaces = self.mistake and (self.mistake.node, self.mistake.replaces) == (number, place)
                deltas[i] = gradient if replaces else deltas[i] + gradient
            gradients |= dict(zip(node.weights, found[len(node.inputs) :], strict=True))
        return {**gradients, "x": deltas[0]}

    def _backward_of(self, number: int) -> Callable[..., Gradients]:
        if self.mistake and self.mistake.node == number:
            return self.mistake.backward
        return self.nodes[number - 1].operation.backward

    def loss_and_gradients(self, parameters: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        values = self.forward(parameters)
        losses = sum((np.sin(values[i]).sum(axis=1) for i in self.ends), np.zeros(SAMPLES))
        upstream = {i: np.cos(values[i]) for i in self.ends}
        return losses, self.backward(upstream, values, parameters)

    def as_layer(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the program as a forward and a backward function, with an output for each end."""
        ends = self.ends

        def forward(**parameters: Array) -> tuple[Any, ...]:
            values = self.forward(parameters)
            return (*(values[i] for i in ends), (values, parameters))

        def backward(*given: Any) -> dict[str, Array]:
            return self.backward(dict(zip(ends, given[:-1], strict=True)), *given[-1])

        return forward, backward


def program(seed: int) -> Program:
    """Return a random program without a mistake, with no result so large that its sine is erratic."""
    rng = np.random.default_rng([seed, 1])
    while True:
        drawn = _drawn(rng)
        if all(np.abs(value).max() < LARGEST for value in drawn.forward(drawn.parameters)):
            return drawn


def _drawn(rng: np.random.Generator) -> Program:
    nodes: list[Node] = []
    parameters = {"x": rng.normal(size=(SAMPLES, WIDTH))}
    for number in range(1, int(rng.integers(6, 15)) + 1):
        kind = LIKELY[int(rng.integers(len(LIKELY)))]
        operation = OPERATIONS[kind]
        recent = rng.integers(max(0, number - 3), number, size=operation.inputs)
        inputs = tuple(int(i) for i in recent)
        weights = tuple(f"w{number}{'ab'[i]}" for i in range(len(operation.weights)))
        shapes = zip(weights, operation.weights, strict=True)
        parameters |= {name: rng.normal(0.0, 0.7, shape) for name, shape in shapes}
        nodes.append(Node(kind, inputs, weights, bool(rng.random() < 0.75)))
    return Program(tuple(nodes), parameters["x"], parameters)


# --- mistakes ---------------------------------------------------------------------------------------------


def mistakes(given: Program) -> Iterator[Mistake]:
    """Yield every mistake that can be planted in a program, visible or not."""
    for number, node in enumerate(given.nodes, 1):
        count = len(node.inputs) + len(node.weights)
        for name, backward in node.operation.wrong.items():
            yield Mistake(name, number, frozenset((number, i) for i in range(count)), backward)
        for place in range(count):
            for name, factor in FACTORS.items():
                yield Mistake(name, number, frozenset([(number, place)]), scaled(node, place, factor))
        for place, i in enumerate(node.inputs):
            uses = {(k, p) for k, n in enumerate(given.nodes, 1) for p, j in enumerate(n.inputs) if j == i}
            if len(uses) > 1:
                yield Mistake("= for +=", number, frozenset(uses), node.operation.backward, place)


def scaled(node: Node, place: int, factor: float) -> Callable[..., Gradients]:
    def backward(*arguments: Array) -> Gradients:
        right = node.operation.backward(*arguments)
        return tuple(factor * each if i == place else each for i, each in enumerate(right))

    return backward


def planted(seed: int) -> Program:
    """Return the random program of a seed with one visible mistake."""
    given, rng = program(seed), np.random.default_rng([seed, 2])
    found = list(mistakes(given))
    for i in rng.permutation(len(found)):
        if visible(given, wrong := replace(given, mistake=found[i])):
            return wrong
    raise AssertionError(f"no mistake is visible in program {seed}")


def visible(right: Program, wrong: Program) -> bool:
    _, expected = right.loss_and_gradients(right.parameters)
    _, found = wrong.loss_and_gradients(right.parameters)
    largest = {name: np.abs(array).max() for name, array in expected.items()}
    rounding = 1e-9 * max(largest.values())
    return any(
        np.abs(found[name] - array).max() > VISIBLE * max(largest[name], rounding)
        for name, array in expected.items()
    )
