"""Bounds on the rounding error of a correct gradient, computed in one forward and one backward sweep.

This is a running error analysis: every quantity in the forward pass and in backprop comes with a bound on its
rounding error (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, §3.3). Bounds are
of first order in ε. Only if both factors of a product may be 0 are the bounds of second order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.graph import INPUT, Graph, run
from gradcheck_cli.network.loss_rounding import loss_upstream
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.step import Arrays, Inputs, Known, Upstream
from gradcheck_cli.types import Array


def forward_errors(
    graph: Graph, parameters: Arrays, values: tuple[Array, ...], arithmetic: Arithmetic
) -> tuple[Array, ...]:
    """Return a bound on |computed − exact| for every value of a forward pass, x included."""
    x = values[INPUT]
    start = arithmetic.input_eps * np.abs(x) if arithmetic.input_eps else np.broadcast_to(0.0, x.shape)

    def error(i: int, inputs: Inputs, errors: Inputs) -> Array:
        node = graph.nodes[i]
        return node.step.error(node.own(parameters), inputs, values[i + 1], errors, arithmetic)

    return errors_from(graph, values, {INPUT: start}, error)


ErrorOf = Callable[[int, Inputs, Inputs], Array]
"""A function of a node's index, its inputs, and bounds on their errors. It bounds the error of the output."""


def errors_from(
    graph: Graph, values: tuple[Array, ...], start: Mapping[int, Array], error_of: ErrorOf
) -> tuple[Array, ...]:
    """Return a bound on the error of every value of a forward pass, from known errors of some values.

    start: the known errors, by index of the value. All values that do not depend on a value with a known
        error count as exact.
    """
    errors = [np.zeros(1)] * len(values)
    for value, error in start.items():
        errors[value] = error
    for i in graph.above(*start):
        node = graph.nodes[i]
        inputs = tuple(values[k] for k in node.inputs)
        known = tuple(np.broadcast_to(errors[k], values[k].shape) for k in node.inputs)
        error = error_of(i, inputs, known)
        errors[i + 1] = error + start[i + 1] if i + 1 in start else error
    return tuple(errors)


@dataclass(frozen=True)
class BackwardErrors:
    """Bounds on the rounding errors of a backward sweep.

    upstream: ∂L/∂value with its error bound, by index of the value; None for x if it was left out.
    gradients: a bound on the error of every parameter's gradient, by name.
    """

    upstream: tuple[Upstream | None, ...]
    gradients: dict[str, Array]


def backward_errors(
    graph: Graph,
    parameters: Arrays,
    values: tuple[Array, ...],
    errors: tuple[Array, ...],
    dL_dout: Upstream,
    arithmetic: Arithmetic,
    input_too: bool,
) -> BackwardErrors:
    """Return first-order bounds on the rounding errors of a backward sweep.

    input_too: whether ∂L/∂x is wanted. It takes as long as the gradient of the first weight.

    An element at a kink counts as being on the side that the computation chose, since the choice of side is a
    convention.
    """
    upstream: list[Upstream | None] = [None] * len(values)
    upstream[-1] = dL_dout
    bounds: dict[str, Array] = {}
    for i in reversed(range(len(graph.nodes))):
        node, arriving = graph.nodes[i], upstream[i + 1]
        assert arriving is not None, "a node that nothing depends on"
        known = Known(
            tuple(values[k] for k in node.inputs),
            values[i + 1],
            tuple(np.broadcast_to(errors[k], values[k].shape) for k in node.inputs),
            errors[i + 1],
        )
        at_node = node.own(parameters), known, arriving, arithmetic
        if graph.reads_only_input(i) and not input_too:
            own = node.step.gradient_errors(*at_node)
        else:
            handed, own = node.step.vjp_error(*at_node)
            for k, share in zip(node.inputs, handed, strict=True):
                upstream[k] = _added(upstream[k], share, arithmetic)
        for name, bound in own.items():
            full = node.names[name]
            bounds[full] = bounds[full] + bound if full in bounds else bound
    return BackwardErrors(tuple(upstream), bounds)


def _added(one: Upstream | None, other: Upstream, arithmetic: Arithmetic) -> Upstream:
    if one is None:
        return other
    value = one.value + other.value
    error = one.error + other.error + arithmetic.eps * np.abs(value)
    return Upstream(value, error, one.hidden + other.hidden)


@dataclass(frozen=True)
class Rounding:
    """Bounds on the rounding errors of a forward pass and of backprop.

    values: a bound on the error of each value, by index.
    upstream: ∂L/∂value with its error bound, by index of the value.
    gradients: a bound on the error of every parameter's gradient, by name.
    """

    values: tuple[Array, ...]
    upstream: tuple[Upstream | None, ...]
    gradients: dict[str, Array]

    def of(self, value: int) -> Array:
        """Return the error bound of ∂L/∂value for the value with index `value`."""
        upstream = self.upstream[value]
        assert upstream is not None
        return upstream.error


def rounding_of(
    network: Network,
    parameters: Arrays,
    x: Array,
    target: Array,
    arithmetic: Arithmetic,
    values: tuple[Array, ...] | None = None,
    input_too: bool = True,
) -> Rounding:
    """Return first-order bounds on |computed − exact| in a correct forward pass and in correct backprop.

    The penalties are left out.

    values: x and the output of every step, if they are known already.
    input_too: whether the bound of ∂L/∂x is wanted, too.
    """
    values = run(network.graph, parameters, x) if values is None else values
    errors = forward_errors(network.graph, parameters, values, arithmetic)
    at_output = values[-1], errors[-1], target, arithmetic
    dL_dout = loss_upstream(network.loss, network.coefficient, *at_output)
    back = backward_errors(network.graph, parameters, values, errors, dL_dout, arithmetic, input_too)
    return Rounding(errors, back.upstream, back.gradients)


def gradient_rounding(
    network: Network,
    parameters: Arrays,
    x: Array,
    target: Array,
    arithmetic: Arithmetic,
    values: tuple[Array, ...] | None = None,
) -> dict[str, Array]:
    """Return a bound on |computed − exact| for each entry of each correct gradient, penalties included.

    A bound that overflows is infinite, because nothing is known about the error of such an entry.

    values: x and the output of every step, if they are known already.
    """
    bounds = rounding_of(network, parameters, x, target, arithmetic, values, input_too=False).gradients
    held = 2 * (arithmetic.eps + arithmetic.input_eps)
    for name in bounds:
        for penalty, strength in network.penalties_on(name).items():
            term = PENALTIES[penalty].derivative(parameters[name], strength)
            bounds[name] = bounds[name] + held * np.abs(term)
    return {name: _sound(bound) for name, bound in bounds.items()}


def _sound(bound: Array) -> Array:
    """Return the bound with each NaN, which comes from overflow, replaced by inf.

    A negative bound fails an assertion, since it would make correct gradients look wrong.
    """
    known: Array = np.where(np.isnan(bound), np.inf, bound)
    assert (known >= 0).all(), "a rounding bound is negative"
    return known
