"""The factors of one layer's derivation, from ∂L/∂output down, each with an estimate to compare it with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.explain.jacobian import ENTRIES, FEW, Entries, StepAlone
from gradcheck_cli.explain.maps import activation_map, bias_map, loss_map, weight_map
from gradcheck_cli.explain.numbers import Numbers
from gradcheck_cli.explain.symbols import Writer, spelt
from gradcheck_cli.network.formulas import Argument
from gradcheck_cli.network.graph import INPUT, Node
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.estimate import Estimate, differentiate
from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Row:
    """One factor to check in the derivation of a layer.

    symbol, formula: the symbol and the formula of the factor.
    name: the factor's name in a gradient file.
    value: the factor as gradcheck's own backprop computes it or, for a parameter's gradient, the array to
        check.
    numerical: the map whose derivative is the factor, or an estimate of the factor.
    rounding: bounds on the rounding error of `value`.
    parts: the symbols of the factors in the formula.
    is_gradient: whether the factor is the gradient of a parameter or of an input of the layer.
    """

    symbol: str
    formula: str
    name: str
    value: Array
    numerical: Movable | Estimate
    rounding: Array
    parts: tuple[str, ...] = ()
    is_gradient: bool = False


def rows_of(numbers: Numbers, writer: Writer) -> Iterator[Row]:
    """Yield the factors of a layer: ∂L/∂output, then the factors of each step, then the layer's gradients."""
    values = _values_inside(numbers, writer) if writer.is_composed else _steps(numbers, writer)
    yield from values
    yield from (_parameter(numbers, writer, name) for name in parameters_of(numbers, writer))
    for value in inputs_of(writer):
        yield _value(numbers, writer, (value,), _parts_of_input(writer, value), is_gradient=True)


def parameters_of(numbers: Numbers, writer: Writer) -> list[str]:
    """Return the names of the layer's checked parameters."""
    names = dict.fromkeys(name for i in writer.nodes for name in writer.graph.nodes[i].names.values())
    return [name for name in names if name in numbers.problem.checked]


def inputs_of(writer: Writer) -> list[int]:
    """Return the indices of the values that the layer takes from other layers, except tokens.

    Tokens have no gradient.
    """
    return [value for value in writer.inputs if writer.readers(value)]


def _steps(numbers: Numbers, writer: Writer) -> Iterator[Row]:
    """Yield the factors of a layer with few steps, one step after another."""
    parts: tuple[str, ...] = ()
    for i in reversed(writer.nodes):
        yield _value(numbers, writer, (i + 1,), parts)
        yield from _locals(numbers, writer, i)
        below = writer.graph.nodes[i].inputs[0]
        parts = (writer.gradient(i + 1), f"∂{writer.value(i + 1)}/∂{writer.value(below)}")


def _values_inside(numbers: Numbers, writer: Writer) -> Iterator[Row]:
    """Yield the factors of a layer with many steps: ∂L/∂value for each symbol, then the steps themselves."""
    for i in reversed(list(writer.shown())):
        yield _value(numbers, writer, tuple(member + 1 for member in writer.group(i)))
    yield _all_steps(numbers, writer)


# --- gradients of values -------------------------------------------------------------------------------


def _value(
    numbers: Numbers,
    writer: Writer,
    values: tuple[int, ...],
    parts: tuple[str, ...] = (),
    is_gradient: bool = False,
) -> Row:
    """Return the factor ∂L/∂v for a value v.

    If v exists at all T time steps, the factor is (N, T, *features), for N samples.
    """
    shown = next((value for value in values if writer.owns(value) and writer.is_shown(value - 1)), values[0])
    symbol, name = writer.gradient(shown), _name_of_gradient(writer, shown)
    given = name in numbers.analytic.factors or name in numbers.analytic.values
    most = len(numbers.values[0]) if given else numbers.samples(shown)
    value = np.stack([numbers.upstream[each][:most] for each in values], axis=1)
    bound = np.stack([numbers.bounds.of(each)[:most] for each in values], axis=1)
    if len(values) == 1:
        value, bound = value[:, 0], bound[:, 0]
    return Row(
        symbol,
        writer.formula(shown),
        name,
        value,
        _estimate(numbers, values, most),
        bound,
        parts,
        is_gradient,
    )


def _estimate(numbers: Numbers, values: tuple[int, ...], samples: int) -> Movable | Estimate:
    if values == (len(numbers.graph.nodes),):
        return loss_map(numbers.problem)
    each = [numbers.differences(value, samples) for value in values]
    if len(each) == 1:
        return each[0]
    return Estimate(np.stack([e.value for e in each], axis=1), np.stack([e.error for e in each], axis=1))


def _name_of_gradient(writer: Writer, value: int) -> str:
    if value == INPUT:
        return INPUTS
    symbol = writer.base(value - 1) if writer.owns(value) else writer.value(value)
    of = "delta" if writer.gradient(value).startswith("δ") else f"dL_d{spelt(symbol)}"
    at_each_step = "_t" if writer.owns(value) and len(writer.group(value - 1)) > 1 else ""
    return f"{writer.layer}.{of}{at_each_step}"


def _parts_of_input(writer: Writer, value: int) -> tuple[str, ...]:
    """Return the symbols of the gradients in this layer from which ∂L/∂input is computed."""
    return tuple(writer.gradient(i + 1) for i in writer.readers(value))


# --- local factors -------------------------------------------------------------------------------------


def _locals(numbers: Numbers, writer: Writer, i: int) -> Iterator[Row]:
    """Yield the local factors of one step: ∂out/∂parameter for each parameter, then ∂out/∂input."""
    node = writer.graph.nodes[i]
    for own in node.names:
        symbol = writer.parameter(i, own)
        yield _local(writer, i, node.step.formulas.parameters[own], symbol, of_parameter(numbers, i, own))
    for number, value in enumerate(node.inputs):
        argument = node.step.formulas.input(number)
        if argument.product != "0" and not node.step.formulas.moves:
            yield _local(writer, i, argument, writer.value(value), of_input(numbers, i, number))


def _local(writer: Writer, i: int, argument: Argument, symbol: str, entries: Entries) -> Row:
    name = f"{writer.layer}.d{spelt(writer.base(i))}_d{spelt(argument.symbol)}"
    return Row(
        f"∂{writer.value(i + 1)}/∂{symbol}",
        writer.local(i, argument),
        name,
        entries.value,
        entries.map,
        entries.rounding,
    )


def of_parameter(numbers: Numbers, i: int, own: str, most: int = ENTRIES) -> Entries:
    """Return some entries of ∂out/∂parameter of node i.

    For a step z = a wᵀ + b on rows, the entries are ∂z/∂w for each row and input, or ∂z/∂b for each row and
    unit, unless `most` is smaller than the default.

    own: the parameter's name in the step.
    most: roughly the largest number of entries.
    """
    node, eps = numbers.graph.nodes[i], numbers.arithmetic.eps
    rows = node.step.rows(numbers.values[node.inputs[0]])
    if rows is None or most < ENTRIES:
        return StepAlone.of(numbers.problem, i, most).of_parameter(own)
    if own == "weight":
        return Entries(weight_map(numbers.problem, i), rows, eps * np.abs(rows))
    ones = np.ones((len(rows), len(numbers.problem.parameters[node.names[own]])))
    return Entries(bias_map(numbers.problem, i), ones, np.zeros_like(ones))


def of_input(numbers: Numbers, i: int, number: int, most: int = ENTRIES) -> Entries:
    """Return some entries of ∂out/∂input of node i. For an activation, return all entries.

    number: the position of the input.
    most: roughly the largest number of entries.
    """
    step = numbers.graph.nodes[i].step
    if not isinstance(step, Pointwise) or most < ENTRIES:
        return StepAlone.of(numbers.problem, i, most).of_input(number)
    slopes = activation_map(numbers.problem, i, step.row)
    (below,) = numbers.graph.nodes[i].inputs
    y, error = numbers.values[below], numbers.bounds.values[below]
    if step.row.coupled:  # for a large softmax, only the first rows' Jacobians are checked
        some = slopes.shape[0]
        y, error = (np.broadcast_to(each, y.shape).reshape(-1, y.shape[-1])[:some] for each in (y, error))
    rounding = step.row.rounding.derivative(step.row, y, error, numbers.arithmetic.eps)
    return Entries(slopes, step.row.derivative(y), rounding)


def _all_steps(numbers: Numbers, writer: Writer) -> Row:
    """Return a few entries of the Jacobian of each step inside a layer, as one factor."""
    each = [entries for i in _kinds(writer) for entries in _few(numbers, writer.graph.nodes[i], i)]
    found = [differentiate(entries.map, numbers.scheme, numbers.how.step) for entries in each]
    estimate = Estimate(
        *(np.concatenate(part) for part in zip(*((e.value, e.error) for e in found), strict=True))
    )
    value, bound = (
        np.concatenate(part)
        for part in zip(*((e.value.ravel(), e.rounding.ravel()) for e in each), strict=True)
    )
    return Row("∂out/∂in", "of each step inside", f"{writer.layer}.steps", value, estimate, bound)


def _few(numbers: Numbers, node: Node, i: int) -> Iterator[Entries]:
    yield from (of_parameter(numbers, i, own, FEW) for own in node.names)
    for number in range(len(node.inputs)):
        if node.step.formulas.input(number).product != "0":
            yield of_input(numbers, i, number, FEW)


def _kinds(writer: Writer) -> list[int]:
    """Return the nodes of a layer. Of nodes that differ only in their time step, only one is included."""
    kinds = {}
    for i in writer.nodes:
        node = writer.graph.nodes[i]
        kinds[type(node.step).__name__, node.step.label, node.symbol, tuple(node.names.values())] = i
    return list(kinds.values())


# --- gradients of parameters ---------------------------------------------------------------------------


def _parameter(numbers: Numbers, writer: Writer, name: str) -> Row:
    i, own = writer.use(name)
    local = f"∂{writer.value(i + 1)}/∂{writer.parameter(i, own)}"
    argument = writer.graph.nodes[i].step.formulas.parameters[own]
    penalty = " + penalty" if numbers.problem.network.penalties_on(name) else ""
    return Row(
        f"∂L/∂{writer.parameter(i, own)}",
        f"{writer.of_every_use(name)}{penalty}",
        name,
        numbers.analytic.values[name],
        numbers.whole[name],
        numbers.of_parameters[name],
        (writer.gradient(i + 1), *([local] if argument.local != "1" else [])),
        True,
    )
