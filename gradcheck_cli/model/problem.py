"""A spec made concrete: network, parameters, inputs and targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from gradcheck_cli.errors import Complaint, Gathered, InputError, bad_input, did_you_mean, shortened
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.arrays import listed, match_shapes, read_npz
from gradcheck_cli.model.data import one_target_per_output, place_of, read_batch
from gradcheck_cli.model.losses import LOSSES, coefficient
from gradcheck_cli.model.moved import NetworkObjective
from gradcheck_cli.model.network import Layer, Network
from gradcheck_cli.model.parameters import initialise
from gradcheck_cli.model.special import Array
from gradcheck_cli.spec import MAX_NUMBERS, LossSpec, NetworkSpec, ParameterFile, Spec


@dataclass(frozen=True)
class Problem:
    """What is checked: L at these parameters, x (N, inputs) and target (N, C).

    All arrays are float64. With dtype float32 they hold numbers that float32 represents exactly, so that
    gradients computed in float32 are held against a reference at the very same point.
    checked: the names of the parameters to check, the output layer's first.
    """

    network: Network
    parameters: Mapping[str, Array]
    x: Array
    target: Array
    dtype: np.dtype[np.floating]
    checked: tuple[str, ...]

    @cached_property
    def objective(self) -> NetworkObjective:
        """The problem as the numerical side sees it."""
        with np.errstate(all="ignore"):
            return NetworkObjective(self.network, self.parameters, self.x, self.target)


def build_problem(spec: Spec) -> Problem:
    """Load or draw everything the spec names. Raises `InputError` with every place in the spec that fails."""
    _refuse_impossible(spec.network)
    try:
        problem = _build(spec)
    except MemoryError:
        raise bad_input(
            "there is not enough memory for a network and batch of this size", "network"
        ) from None
    _refuse_overflow(problem)
    return problem


def _build(spec: Spec) -> Problem:
    dtype, loss = np.dtype(spec.dtype), spec.network.loss
    network = _network(spec.network)
    found = Gathered()
    with found:
        x, target, total = _samples(spec, network)
    with found:
        parameters = _parameters(spec, network)
    with found:
        checked = _checked(spec, network)
    found.raise_any()
    outputs = network.output.units
    return Problem(
        replace(network, coefficient=coefficient(network.loss, loss.reduction, loss.scale, outputs, total)),
        {name: _held_by(dtype, value) for name, value in parameters.items()},
        _held_by(dtype, x),
        _held_by(dtype, target),
        dtype,
        checked,
    )


def _network(spec: NetworkSpec) -> Network:
    """The network with a coefficient of 1: the true one may depend on the samples' weights."""
    loss = LOSSES[spec.loss.name].with_options(**spec.loss.options)
    return Network(_layers(spec), loss, 1.0, spec.penalty.strengths, spec.penalty.biases)


def _samples(spec: Spec, network: Network) -> tuple[Array, Array, float]:
    """x, the target, and the samples' total weight."""
    outputs = network.output.units
    batch = read_batch(spec.data, spec.network.inputs, outputs, network.loss)
    _refuse_too_many(spec.network, len(batch.x))
    target, labels = one_target_per_output(batch, outputs, network.loss, place_of(spec.data, "y"))
    return batch.x, *_weighted(target, labels, spec.network.loss)


def _held_by(dtype: np.dtype[np.floating], array: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype).astype(np.float64))


def _layers(spec: NetworkSpec) -> tuple[Layer, ...]:
    inputs, layers = spec.inputs, []
    for name, layer in zip(spec.names, spec.layers, strict=True):
        activation = ACTIVATIONS[layer.activation.name].with_options(**layer.activation.options)
        layers.append(Layer(name, inputs, layer.units, activation, layer.activation.name))
        inputs = layer.units
    return tuple(layers)


def _weighted(target: Array, labels: Array | None, loss: LossSpec) -> tuple[Array, float]:
    """The target with label smoothing and class weights worked in, and the samples' total weight.

    PyTorch's convention: labels weigh what their class weighs, distributions weigh 1 each.
    """
    outputs = target.shape[1]
    target = (1.0 - loss.label_smoothing) * target + loss.label_smoothing / outputs
    if loss.weight is None:
        return target, float(len(target))
    weight = np.array(loss.weight)
    with np.errstate(over="ignore"):
        total = float(weight[labels].sum()) if labels is not None else float(len(target))
    if total == 0 and loss.reduction != "sum":
        message = "every sample's class weight is 0, so the loss is a mean over nothing"
        raise bad_input(message, "network", "loss", "weight")
    if not math.isfinite(total):
        raise bad_input("the samples' class weights add up to infinity", "network", "loss", "weight")
    return weight * target, total


def _parameters(spec: Spec, network: Network) -> Mapping[str, Array]:
    if not isinstance(spec.parameters, ParameterFile):
        init = spec.parameters
        sizes = [(layer.name, layer.inputs, layer.units) for layer in network.layers]
        with np.errstate(over="ignore"):  # seen, and refused, in the forward pass
            return initialise(init.init, init.scale, init.seed, init.bias == "same", sizes)
    where = ("parameters", "file")
    arrays = read_npz(spec.parameters.file, where)
    match_shapes(arrays, network.shapes, "parameter", where)
    infinite = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if infinite:
        raise InputError(
            *(Complaint(f"parameter '{name}' holds numbers that are not finite", where) for name in infinite)
        )
    return arrays


def _checked(spec: Spec, network: Network) -> tuple[str, ...]:
    patterns = spec.check.parameters
    complaints = [
        Complaint(
            f"'{shortened(pattern)}' matches no parameter",
            ("check", "parameters", i),
            did_you_mean(pattern, [*network.shapes, *(f"{layer.name}.*" for layer in network.layers)])
            or f"there is {listed(network.shapes)}",
        )
        for i, pattern in enumerate(patterns)
        if not any(fnmatchcase(name, pattern) for name in network.shapes)
    ]
    if complaints:
        raise InputError(*complaints)
    return tuple(name for name in network.shapes if any(fnmatchcase(name, pattern) for pattern in patterns))


def _refuse_impossible(spec: NetworkSpec) -> None:
    """What is wrong with the network whatever its data, before anything is allocated."""
    complaints = [*_ambiguous_names(spec), *_too_large(spec)]
    weights, outputs = spec.loss.weight, spec.layers[-1].units
    if weights is not None and len(weights) != outputs:
        message = f"there are {len(weights)} class weights and {outputs} outputs"
        complaints.append(Complaint(message, ("network", "loss", "weight")))
    if complaints:
        raise InputError(*complaints)


def _ambiguous_names(spec: NetworkSpec) -> Iterator[Complaint]:
    names = spec.names
    for i, name in enumerate(names):
        if name in names[:i]:
            yield Complaint(f"two layers are named '{name}'", ("network", "layers", i, "name"))


def _too_large(spec: NetworkSpec) -> Iterator[Complaint]:
    inputs, total = spec.inputs, 0
    for i, layer in enumerate(spec.layers):
        total += (inputs + 1) * layer.units
        if total > MAX_NUMBERS:
            message = (
                f"with a weight of {layer.units:,} × {inputs:,} numbers the parameters are over the limit "
                f"of {MAX_NUMBERS:,}"
            )
            yield Complaint(message, ("network", "layers", i, "units"))
            return
        inputs = layer.units


def _refuse_too_many(spec: NetworkSpec, samples: int) -> None:
    total = 0
    for i, layer in enumerate(spec.layers):
        total += samples * layer.units
        if total > MAX_NUMBERS:
            message = (
                f"with {samples:,} samples of {layer.units:,} units the activations are over the limit "
                f"of {MAX_NUMBERS:,} numbers"
            )
            raise bad_input(message, "network", "layers", i, "units", help="check a smaller batch")


def _refuse_overflow(problem: Problem) -> None:
    """Without a finite loss there is no gradient to check; say where the numbers ran away."""
    objective = problem.objective
    if np.isfinite(objective.total) and np.isfinite(objective.activity.output).all():
        return
    for i, (layer, z) in enumerate(zip(problem.network.layers, objective.activity.z, strict=True)):
        if not np.isfinite(z).all():
            message = f"the forward pass overflows: pre-activations of layer '{layer.name}' are not finite"
            raise bad_input(message, "network", "layers", i, help="the parameters or inputs are too large")
    with np.errstate(over="ignore"):
        at = "loss" if not np.isfinite(objective.losses.sum()) else "penalty"
    raise bad_input(f"the {at} is not a finite number at these parameters", "network", at)
