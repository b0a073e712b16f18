"""Build the network, parameters, inputs and targets that a spec describes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect, OwnParameters, read_fitting
from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.errors import Complaint, Gathered, InputError, bad_input, did_you_mean, shortened
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.initialisers import Sized, initialise
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.losses import LOSSES, Reduction, coefficient
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.steps.batch_norm import Normalise
from gradcheck_cli.problem.data import Batch, one_target_per_output, place_of, read_batch
from gradcheck_cli.problem.layers import layers_of, refuse_impossible, refuse_too_many
from gradcheck_cli.problem.memory import refuse_oversized
from gradcheck_cli.spec.network import LossSpec, NetworkSpec
from gradcheck_cli.spec.parameters import InitialisedParameters, Parameters
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Problem:
    """The loss L to check, with parameters, inputs x (N, inputs) and targets (N, C).

    All arrays are float64. With dtype float32 they hold numbers that float32 represents exactly, so gradients
    computed in float32 are compared with a reference at exactly the same point.
    y: the labels (N,) or targets as the data give them, from which `target` was made.
    checked: the names of the parameters to check, the output layer's first.
    plain_target: the target (N, C) before label smoothing and class weights.
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
    reduction: Reduction = "batchmean"

    @cached_property
    def objective(self) -> NetworkObjective:
        """The problem as the numerical side sees it."""
        with np.errstate(all="ignore"):
            return NetworkObjective(self.network, self.parameters, self.x, self.target)

    def objective_for(self, dtypes: Iterable[np.dtype[Any]]) -> NetworkObjective:
        """Return the objective for gradients in these types; coarser types put more numbers on a kink."""
        coarsest = max(dtypes, key=lambda dtype: float(np.finfo(dtype).eps), default=np.dtype(np.float64))
        arithmetic = Arithmetic.of(coarsest, held=self.dtype)
        with np.errstate(all="ignore"):
            return NetworkObjective(self.network, self.parameters, self.x, self.target, arithmetic)


def build_problem(spec: Spec, own: OwnParameters | None = None) -> Problem:
    """Load or draw everything the spec names.

    own: parameters from the user's Python file, which replace those of the spec.
    Raises `InputError` with every place in the spec that fails.
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
    network = _network(described)
    refuse_impossible(described, network.layers)
    found = Gathered()
    with found:
        batch, plain, target, total = _samples(spec, described, network)
        refuse_oversized(network, len(batch.x), spec.check.memory)
    with found:
        source = spec.parameters or InitialisedParameters()
        parameters = _parameters(source, network) if own is None else own.fitting(network.shapes)
    with found:
        checked = matching(network.shapes, spec.check.parameters)
    found.raise_any()
    outputs = network.output.units
    return Problem(
        replace(network, coefficient=coefficient(network.loss, loss.reduction, loss.scale, outputs, total)),
        {name: _held_by(dtype, value) for name, value in parameters.items()},
        _held_by(dtype, batch.x.reshape(len(batch.x), *network.features)),
        _held_by(dtype, target),
        batch.y,
        dtype,
        checked,
        _held_by(dtype, plain),
        loss.label_smoothing,
        None if loss.weight is None else np.array(loss.weight),
        loss.reduction,
    )


def _network(spec: NetworkSpec) -> Network:
    """Return the network with a coefficient of 1; the final one may depend on the samples' weights."""
    loss = LOSSES[spec.loss.name].with_options(**spec.loss.options)
    return Network(spec.features, layers_of(spec), loss, 1.0, spec.penalty.strengths, spec.penalty.biases)


def _samples(spec: Spec, described: NetworkSpec, network: Network) -> tuple[Batch, Array, Array, float]:
    """Return the samples, their targets before and after smoothing and weights, and their total weight."""
    if spec.data is None:
        raise bad_input("this needs data, but the spec has no data section", "data")
    outputs = network.output.units
    batch = read_batch(spec.data, math.prod(network.features), outputs, network.loss)
    refuse_too_many(network.layers, len(batch.x))
    target, labels = one_target_per_output(batch, outputs, network.loss, place_of(spec.data, "y"))
    return batch, target, *_weighted(target, labels, described.loss)


def _held_by(dtype: np.dtype[np.floating], array: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype).astype(np.float64))


def _weighted(target: Array, labels: Array | None, loss: LossSpec) -> tuple[Array, float]:
    """Return the target with label smoothing and class weights applied, and the samples' total weight.

    This is PyTorch's convention: a label has the weight of its class, a distribution has weight 1.
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


def _parameters(source: Parameters, network: Network) -> Mapping[str, Array]:
    if isinstance(source, InitialisedParameters):
        init = source
        sizes = [_sized(layer) for layer in network.layers]
        with np.errstate(over="ignore"):  # the forward pass detects and refuses overflow
            return initialise(init.init, init.scale, init.seed, init.bias == "same", sizes)
    help = "map its name in the file under names"
    arrays = read_fitting(source, "parameters", "parameter", network.shapes, if_missing=help)
    where, theirs = ("parameters", "file"), Dialect(source, "parameters").name
    infinite = [theirs(name) for name, array in arrays.items() if not np.isfinite(array).all()]
    if infinite:
        raise InputError(
            *(Complaint(f"parameter '{name}' holds numbers that are not finite", where) for name in infinite)
        )
    return arrays


def _sized(layer: Layer) -> Sized:
    fans = layer.step.fans("weight")
    return Sized(layer.name, layer.step.shapes["weight"], *fans, layer.batch_norm is not None)


def matching(names: Collection[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names that match any of the patterns.

    Raises `InputError` for a pattern that matches none.
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
    """Raise an `InputError` if the forward pass overflows, naming the layer and the type."""
    network, values, dtype = objective.network, objective.values, objective.x.dtype
    deviations = _deviations(objective)
    if np.isfinite(objective.total) and all(np.isfinite(each).all() for each in (*values, *deviations)):
        return
    in_type = "" if dtype == np.float64 else f" in {dtype}"
    help = f"the parameters or inputs are too large{in_type and f' for {dtype}; try float64'}"
    for layer, at, deviation in zip(network.layers, network.places, deviations, strict=True):
        for what, numbers in (("pre-activations", values[at.z]), ("variances", deviation)):
            if not np.isfinite(numbers).all():
                message = (
                    f"the forward pass overflows{in_type}: {what} of layer '{layer.name}' are not finite"
                )
                raise bad_input(message, "network", "layers", layer.place, help=help)
    with np.errstate(over="ignore"):
        at_fault = "loss" if not np.isfinite(objective.losses.sum()) else "penalty"
    raise bad_input(
        f"the {at_fault} is not a finite number{in_type} at these parameters", "network", at_fault
    )


def _deviations(objective: NetworkObjective) -> list[Array]:
    """Return √(var z + eps) of every layer; 1 without batch normalisation."""
    network = objective.network
    norms = [next((s for s in layer.steps if isinstance(s, Normalise)), None) for layer in network.layers]
    return [
        np.ones(1) if norm is None else norm.deviation(objective.values[at.z])
        for norm, at in zip(norms, network.places, strict=True)
    ]
