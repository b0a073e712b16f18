"""Build a network with its parameters, inputs and targets from the spec that describes them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.errors import Complaint, Gathered, InputError, bad_input, did_you_mean, shortened
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.graph import INPUT, Graph
from gradcheck_cli.network.initialisers import initialise, sizes_of
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.losses import LOSSES, Reduction, coefficient
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.shifted import INPUTS, shifted
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.problem.data import Batch, one_target_per_output, place_of, read_batch
from gradcheck_cli.problem.fixed import for_batch, read_one
from gradcheck_cli.problem.layers import graph_of, refuse_impossible, refuse_too_few, refuse_too_many
from gradcheck_cli.problem.memory import refuse_oversized
from gradcheck_cli.problem.synthetic import Needed
from gradcheck_cli.spec.network import LossSpec, NetworkSpec
from gradcheck_cli.spec.parameters import InitialisedParameters, Parameters
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array, precision_of

if TYPE_CHECKING:
    from gradcheck_cli.arrays.named_arrays import OwnParameters


@dataclass(frozen=True)
class Problem:
    """A network with its parameters and data, which together define the loss L whose gradients are checked.

    All arrays are float64. With dtype float32, every number in the arrays is one that float32 represents
    exactly. So gradients computed in float32 are compared with a reference at exactly the same point. N is
    the number of samples.

    x: the inputs, (N, *features).
    target: the targets, (N, *outputs), with label smoothing and weights applied. If the loss has weights that
        cannot be applied to a target, they are one more column.
    y: the labels, (N, *positions), or the targets as they are in the data. `target` is computed from `y`.
    checked: the names of the parameters to check, starting with the output layer.
    patterns: the patterns that select the parameters to check.
    checks_inputs: whether ∂L/∂x is checked, too.
    plain_target: the targets, (N, *outputs), before label smoothing and weights.
    class_weight: the weight of each of C classes, (C,); None without class weights.
    sample_weight: the weight of each sample, (N, 1, …); None without sample weights.
    """

    network: Network
    parameters: Mapping[str, Array]
    x: Array
    target: Array
    y: Array
    dtype: np.dtype[np.floating]
    checked: tuple[str, ...]
    plain_target: Array
    label_smoothing: float = 0.0
    class_weight: Array | None = None
    sample_weight: Array | None = None
    reduction: Reduction = "batchmean"
    patterns: tuple[str, ...] = ("*",)
    checks_inputs: bool = False

    @property
    def checked_values(self) -> Mapping[str, int]:
        """The index of each value whose gradient every source has to provide, by the gradient's name."""
        return {INPUTS: INPUT} if self.checks_inputs else {}

    def selects(self, name: str) -> bool:
        """Return whether any of `patterns` matches the name of a tensor."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def with_shifts(self, values: Mapping[str, int]) -> Problem:
        """Return the problem with a shift of 0 added to each of the given values.

        Each shift is a parameter.

        values: the index of each value, by the name of its shift.
        """
        if not values:
            return self
        network, parameters = shifted(self.network, self.parameters, len(self.x), values)
        return replace(self, network=network, parameters=parameters)

    @cached_property
    def objective(self) -> NetworkObjective:
        """The loss of this problem as a function that finite differences can evaluate."""
        with np.errstate(all="ignore"):
            return NetworkObjective(self.network, self.parameters, self.x, self.target)

    def objective_for(self, dtypes: Iterable[np.dtype[Any]]) -> NetworkObjective:
        """Return the objective to use for gradients of the given dtypes.

        The less precise the dtypes are, the more elements count as being on a kink.
        """
        coarsest = max(dtypes, key=lambda dtype: precision_of(dtype).eps, default=np.dtype(np.float64))
        arithmetic = Arithmetic.of(coarsest, held=self.dtype)
        at, values = (self.network, self.parameters, self.x, self.target), self.objective.values
        with np.errstate(all="ignore"):
            return NetworkObjective(*at, arithmetic, values=values)


def build_problem(spec: Spec, own: OwnParameters | None = None) -> Problem:
    """Build the problem that a spec describes, reading or drawing its parameters and data.

    Raises an `InputError` that lists every error in the spec or its files.

    own: parameters from the user's Python file, which replace the spec's parameters.
    """
    if spec.network is None:
        raise bad_input("this needs a network, but the spec has no network section", "network", help=_NETWORK)
    try:
        problem = _build(spec, spec.network, own)
    except MemoryError:
        raise bad_input(
            "there is not enough memory for a network and batch of this size", "network"
        ) from None
    refuse_overflow(problem.objective)
    return problem


_NETWORK = "add network: {inputs: N, layers: [{units: N, activation: NAME}, …], loss: NAME}"


def _build(spec: Spec, described: NetworkSpec, own: OwnParameters | None) -> Problem:
    dtype, loss = np.dtype(spec.dtype), described.loss
    network = _network(described, dtype)
    refuse_impossible(described, network)
    found = Gathered()
    with found:
        _refuse_tokens(spec, network)
    with found:
        batch, plain, target, total = _samples(spec, described, network)
        of_samples = _sample_weight(loss, batch, target.ndim)
        network = replace(network, graph=for_batch(network.graph, batch.first, len(batch.x)))
        refuse_oversized(network, len(batch.x), spec.check.memory)
    with found:
        source = spec.parameters or InitialisedParameters()
        parameters = _parameters(source, network) if own is None else own.fitting(network.shapes)
    with found:
        checked = matching(network.shapes, spec.check.parameters)
    found.raise_any()
    by = coefficient(network.loss, loss.reduction, loss.scale, network.outputs, total)
    return Problem(
        replace(network, coefficient=by),
        {name: _held_by(dtype, value) for name, value in parameters.items()},
        _held_by(dtype, batch.x.reshape(len(batch.x), *network.features)),
        _held_by(dtype, _for_samples(network.loss, target, of_samples)),
        batch.y,
        dtype,
        checked,
        _held_by(dtype, plain),
        loss.label_smoothing,
        None if loss.weight is None else np.array(loss.weight),
        of_samples,
        loss.reduction,
        spec.check.parameters,
        spec.check.inputs,
    )


def _network(spec: NetworkSpec, dtype: np.dtype[np.floating]) -> Network:
    """Return the network with a loss coefficient of 1; the final coefficient may depend on the data."""
    graph = graph_of(spec, dtype)
    row = LOSSES[spec.loss.name].with_options(**spec.loss.options)
    weighted = row if spec.loss.sample_weight is None else row.weighted()
    loss = replace(weighted, ignored=spec.loss.ignored).over(len(graph.value_features[-1]) - 1)
    return Network(graph, loss, 1.0, spec.penalty.strengths, spec.penalty.biases)


def _refuse_tokens(spec: Spec, network: Network) -> None:
    if spec.check.inputs and network.tokens:
        message = "'inputs' needs numbers in x, but the first layer takes tokens, which have no gradient"
        raise bad_input(
            message, "check", "inputs", help="leave 'inputs' out; the weight of the embedding is checked"
        )


def _samples(spec: Spec, described: NetworkSpec, network: Network) -> tuple[Batch, Array, Array, float]:
    """Return the samples, their targets before and after smoothing and weighting, and the total weight."""
    if spec.data is None:
        raise bad_input("this needs data, but the spec has no data section", "data")
    needed = Needed(network.features, network.outputs, network.loss, network.tokens)
    batch = read_batch(spec.data, needed)
    refuse_too_many(network.graph, len(batch.x))
    refuse_too_few(network.graph, len(batch.x))
    target, labels = one_target_per_output(batch, network.outputs, network.loss, place_of(spec.data, "y"))
    return batch, target, *_weighted(target, labels, described.loss)


def _held_by(dtype: np.dtype[np.floating], array: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype, copy=False).astype(np.float64, copy=False))


def _weighted(target: Array, labels: Array | None, loss: LossSpec) -> tuple[Array, float]:
    """Return the target with label smoothing and class weights applied, and the total weight of all rows.

    A row is a sample or, if the output has positions, a position of a sample. As in PyTorch, a row with a
    label has the weight of its class, or 0 if the label is ignored. A row with a distribution has weight 1.
    """
    outputs = target.shape[-1]
    counted = np.ones(target.shape[:-1], dtype=bool) if labels is None else ~np.isin(labels, loss.ignored)
    smoothed = (1.0 - loss.label_smoothing) * target + loss.label_smoothing / outputs
    target = np.where(counted[..., None], smoothed, 0.0)
    if loss.weight is None:
        _refuse_nothing(float(counted.sum()), loss, "ignore_index", "every label is ignored")
        return target, float(counted.sum())
    weight = np.array(loss.weight)
    if not LOSSES[loss.name].weighted_mean:
        return weight * target, float(counted.sum())
    with np.errstate(over="ignore"):
        total = float(weight[labels[counted]].sum()) if labels is not None else float(counted.sum())
    _refuse_nothing(total, loss, "weight", "every sample's class weight is 0")
    if not math.isfinite(total):
        raise bad_input("the samples' class weights add up to infinity", "network", "loss", "weight")
    return weight * target, total


_SAMPLE_WEIGHT = ("network", "loss", "sample_weight")


def _sample_weight(loss: LossSpec, batch: Batch, axes: int) -> Array | None:
    """Return the weight of each sample of the batch; None if the spec gives no sample weights.

    The result has the shape (N, 1, …), for N samples, with `axes` axes. The spec's array has a weight for
    each sample of the batch, or for each sample of the data that the batch is part of.
    """
    if loss.sample_weight is None:
        return None
    array, samples = read_one(loss.sample_weight, "sample_weight", _SAMPLE_WEIGHT), len(batch.x)
    weights = array if len(array) == samples else array[batch.first : batch.first + samples]
    if array.ndim != 1 or len(weights) != samples:
        message = f"sample_weight has shape {list(array.shape)}; [{samples}] is needed"
        raise bad_input(message, *_SAMPLE_WEIGHT, help="give a weight for each sample of the batch")
    if (weights < 0).any():
        raise bad_input("sample_weight holds negative numbers", *_SAMPLE_WEIGHT)
    return weights.reshape(-1, *(1,) * (axes - 1))


def _for_samples(loss: Loss, target: Array, weights: Array | None) -> Array:
    """Return the target with the weights of the samples: as factors or, if the loss needs it, as a column."""
    if weights is None:
        return target
    if not loss.has_weights:
        return weights * target
    return np.concatenate([target, np.broadcast_to(weights, (*target.shape[:-1], 1))], axis=-1)


def _refuse_nothing(total: float, loss: LossSpec, option: str, why: str) -> None:
    if total == 0 and loss.reduction != "sum":
        raise bad_input(f"{why}, so the loss is a mean over nothing", "network", "loss", option)


def _parameters(source: Parameters, network: Network) -> Mapping[str, Array]:
    if isinstance(source, InitialisedParameters):
        init, sizes = source, sizes_of(network.graph)
        with np.errstate(over="ignore"):  # the forward pass detects and refuses overflow
            drawn = initialise(init.init, init.scale, init.seed, init.bias == "same", sizes)
        return {name: _with_constants(network.graph, name, value) for name, value in drawn.items()}
    from gradcheck_cli.arrays.named_arrays import (  # only a spec that names a file needs it
        Dialect,
        read_fitting,
    )

    help = "under 'names', map the array's name in the file to the parameter's name"
    arrays = read_fitting(source, "parameters", "parameter", network.shapes, if_missing=help)
    where, theirs = ("parameters", "file"), Dialect(source, "parameters").name
    infinite = [theirs(name) for name, array in arrays.items() if not np.isfinite(array).all()]
    if infinite:
        raise InputError(
            *(Complaint(f"parameter '{name}' holds numbers that are not finite", where) for name in infinite)
        )
    return arrays


def _with_constants(graph: Graph, name: str, drawn: Array) -> Array:
    """Return a drawn parameter with 0 in the entries that get no gradient, such as a padding token's row."""
    masks = [graph.nodes[i].step.constant(own) for i, own in graph.uses[name]]
    for mask in masks:
        drawn = drawn if mask is None else np.where(mask, 0.0, drawn)
    return drawn


def matching(names: Collection[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of parameters that match any of the patterns, in which wildcards are allowed.

    Raises an `InputError` that lists every pattern that matches no name.
    """
    groups = dict.fromkeys(f"{name.rsplit('.', 1)[0]}.*" for name in names if "." in name)
    complaints = [
        Complaint(
            f"'{shortened(pattern)}' matches no parameter",
            ("check", "parameters", i),
            did_you_mean(pattern, [*names, *groups]) or f"the parameters are {listed(names)}",
        )
        for i, pattern in enumerate(patterns)
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    if complaints:
        raise InputError(*complaints)
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def refuse_overflow(objective: NetworkObjective) -> None:
    """Raise an `InputError` if the forward pass overflows. The error names the layer and the dtype."""
    network, values, dtype = objective.network, objective.values, objective.x.dtype
    deviations = _deviations(objective)
    if np.isfinite(objective.total) and all(
        np.isfinite(each).all() for each in (*values, *deviations.values())
    ):
        return
    in_type = "" if dtype == np.float64 else f" in {dtype}"
    help = f"the parameters or inputs are too large{in_type and f' for {dtype}; try float64'}"
    for what, i in _overflown(objective):
        node = network.graph.nodes[i]
        message = f"the forward pass overflows{in_type}: {what} of layer '{node.layer}' are not finite"
        raise bad_input(message, "network", "layers", *node.place[:-1], help=help)
    with np.errstate(over="ignore"):
        at_fault = "loss" if not np.isfinite(objective.losses.sum()) else "penalty"
    raise bad_input(
        f"the {at_fault} is not a finite number{in_type} at these parameters", "network", at_fault
    )


def _overflown(objective: NetworkObjective) -> Iterator[tuple[str, int]]:
    """Yield, for each node that overflows, a word for the elements that overflow, and the node's index.

    An example of such a word is ``variances``.
    """
    deviations = _deviations(objective)
    for i, node in enumerate(objective.network.graph.nodes):
        if not np.isfinite(deviations.get(i, 1.0)).all():
            yield "variances", i
        elif not node.step.is_activation and not np.isfinite(objective.values[i + 1]).all():
            yield "pre-activations", i


def _deviations(objective: NetworkObjective) -> dict[int, Array]:
    """Return √(var z + eps), by the index of the node, for every node that normalises its input z."""
    nodes = objective.network.graph.nodes
    return {
        i: node.step.deviation(objective.values[node.inputs[0]])
        for i, node in enumerate(nodes)
        if isinstance(node.step, Normalise)
    }
