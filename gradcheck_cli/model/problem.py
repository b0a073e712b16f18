"""A spec made concrete: network, parameters, inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from gradcheck_cli.errors import Complaint, InputError, Location, bad_input, did_you_mean
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.arrays import match_shapes, read_npz
from gradcheck_cli.model.data import one_target_per_output, read_batch
from gradcheck_cli.model.losses import LOSSES, coefficient
from gradcheck_cli.model.moved import NetworkObjective
from gradcheck_cli.model.network import Layer, Network
from gradcheck_cli.model.parameters import initialise
from gradcheck_cli.model.special import Array
from gradcheck_cli.spec import (
    MAX_NUMBERS,
    Data,
    DataFile,
    InlineData,
    LossSpec,
    NetworkSpec,
    ParameterFile,
    Spec,
)


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
    """Load or draw everything the spec names. Raises `InputError` at the place in the spec."""
    dtype = np.dtype(spec.dtype)
    _refuse_unnamed(spec.network)
    layers = _layers(spec.network)
    outputs, loss = layers[-1].units, LOSSES[spec.network.loss.name]
    batch = read_batch(spec.data, spec.network.inputs, outputs, loss)
    _refuse_too_large(spec.network, len(batch.x))
    target, labels = one_target_per_output(batch.y, outputs, loss, _place_of_y(spec.data))
    target, total = _weighted(target, labels, spec.network.loss)
    network = Network(
        layers,
        loss.with_options(**spec.network.loss.options),
        coefficient(loss, spec.network.loss.reduction, spec.network.loss.scale, outputs, total),
        spec.network.penalty.strengths,
        spec.network.penalty.biases,
    )
    problem = Problem(
        network,
        {name: _held_by(dtype, value) for name, value in _parameters(spec, network).items()},
        _held_by(dtype, batch.x),
        _held_by(dtype, target),
        dtype,
        _checked(spec, network),
    )
    _refuse_overflow(problem)
    return problem


def _place_of_y(data: Data) -> Location:
    if isinstance(data, DataFile):
        return ("data", "file")
    return ("data", "y") if isinstance(data, InlineData) else ("data",)


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
    if len(loss.weight) != outputs:
        message = f"there are {len(loss.weight)} class weights and {outputs} outputs"
        raise bad_input(message, "network", "loss", "weight")
    weight = np.array(loss.weight)
    total = float(weight[labels].sum()) if labels is not None else float(len(target))
    if total == 0:
        message = "every sample's class weight is 0, so the loss is a mean over nothing"
        raise bad_input(message, "network", "loss", "weight")
    return weight * target, total


def _parameters(spec: Spec, network: Network) -> Mapping[str, Array]:
    if not isinstance(spec.parameters, ParameterFile):
        init = spec.parameters
        sizes = [(layer.name, layer.inputs, layer.units) for layer in network.layers]
        return initialise(init.init, init.scale, init.seed, init.bias == "same", sizes)
    where = ("parameters", "file")
    arrays = read_npz(spec.parameters.file, where)
    match_shapes(arrays, network.shapes, "parameter", where)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise bad_input(f"parameter '{name}' holds numbers that are not finite", *where)
    return arrays


def _checked(spec: Spec, network: Network) -> tuple[str, ...]:
    patterns = spec.check.parameters
    complaints = [
        Complaint(
            f"'{pattern}' matches no parameter",
            ("check", "parameters", i),
            did_you_mean(pattern, network.shapes) or f"there is {', '.join(network.shapes)}",
        )
        for i, pattern in enumerate(patterns)
        if not any(fnmatchcase(name, pattern) for name in network.shapes)
    ]
    if complaints:
        raise InputError(*complaints)
    return tuple(name for name in network.shapes if any(fnmatchcase(name, pattern) for pattern in patterns))


def _refuse_unnamed(spec: NetworkSpec) -> None:
    names = spec.names
    for i, name in enumerate(names):
        if name in names[:i]:
            raise bad_input(f"two layers are named '{name}'", "network", "layers", i, "name")


def _refuse_too_large(spec: NetworkSpec, samples: int) -> None:
    inputs = spec.inputs
    for i, layer in enumerate(spec.layers):
        for numbers, what in (
            (inputs * layer.units, f"a weight of {layer.units:,} × {inputs:,} numbers"),
            (samples * layer.units, f"{samples:,} samples of {layer.units:,} units"),
        ):
            if numbers > MAX_NUMBERS:
                message = f"{what} is over the limit of {MAX_NUMBERS:,}"
                raise bad_input(message, "network", "layers", i, "units")
        inputs = layer.units


def _refuse_overflow(problem: Problem) -> None:
    """Without a finite loss there is no gradient to check; say where the numbers ran away."""
    objective = problem.objective
    if np.isfinite(objective.losses).all():
        return
    for i, (layer, z) in enumerate(zip(problem.network.layers, objective.activity.z, strict=True)):
        if not np.isfinite(z).all():
            message = f"the forward pass overflows: pre-activations of layer '{layer.name}' are not finite"
            raise bad_input(message, "network", "layers", i, help="the parameters or inputs are too large")
    raise bad_input("the loss is not a finite number at these parameters", "network", "loss")
