"""Build the layers of a network from its spec, and refuse what does not fit, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gradcheck_cli.errors import Complaint, InputError, bad_input
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps import STEPS
from gradcheck_cli.spec.layers import AnyLayer, ParametricLayer
from gradcheck_cli.spec.model import MAX_NUMBERS
from gradcheck_cli.spec.network import NetworkSpec
from gradcheck_cli.types import Shape


def layers_of(spec: NetworkSpec) -> tuple[Layer, ...]:
    """Return the layers with parameters; a step without any belongs to the layer above it.

    Raises an `InputError` that points at the first item that does not fit the one below it.
    """
    features, before, layers = spec.features, list[Step](), list[Layer]()
    for i, (name, item) in enumerate(zip(spec.names, spec.layers, strict=True)):
        step = _step(item, features, i)
        if isinstance(item, ParametricLayer):
            activation = ACTIVATIONS[item.activation.name].with_options(**item.activation.options)
            norm = item.batch_norm.eps if item.batch_norm else None
            row = activation, item.activation.name
            layers.append(Layer(name, step, features, *row, norm, tuple(before), i))
            before.clear()
        else:
            before.append(step)
        features = step.out(features)
    _refuse_end(layers, before, features, len(spec.layers) - 1)
    return tuple(layers)


def _step(item: AnyLayer, features: Shape, i: int) -> Step:
    try:
        return STEPS[item.kind].of(features, **item.options)
    except UnfitError as error:
        where = ("network", "layers", i, error.key) if error.key else ("network", "layers", i)
        raise bad_input(str(error), *where, help=error.help) from None


def _refuse_end(layers: Sequence[Layer], before: Sequence[Step], features: Shape, last: int) -> None:
    if before or not layers or len(features) != 1:
        message = "the last layer must be a dense one, {units: …}, whose outputs the loss compares"
        raise bad_input(message, "network", "layers", last)


def refuse_impossible(spec: NetworkSpec, layers: Sequence[Layer]) -> None:
    """Raise an `InputError` for a network that is invalid for any data."""
    complaints = [*_ambiguous_names(spec), *_too_large(layers)]
    weights, outputs = spec.loss.weight, layers[-1].units
    if weights is not None and len(weights) != outputs:
        message = f"there are {len(weights)} class weights and {outputs} outputs"
        complaints.append(Complaint(message, ("network", "loss", "weight")))
    if complaints:
        raise InputError(*complaints)


def _ambiguous_names(spec: NetworkSpec) -> Iterator[Complaint]:
    names = spec.names
    for i, name in enumerate(names):
        if name and name in names[:i]:
            yield Complaint(f"two layers are named '{name}'", ("network", "layers", i, "name"))


def _too_large(layers: Sequence[Layer]) -> Iterator[Complaint]:
    total = 0
    for layer in layers:
        shape = layer.step.shapes["weight"]
        total += math.prod(shape) + layer.units
        if total > MAX_NUMBERS:
            size = " × ".join(f"{number:,}" for number in shape)
            message = f"a weight of {size} takes the parameters over the limit of {MAX_NUMBERS:,} numbers"
            yield Complaint(message, size_of(layer))
            return


def size_of(layer: Layer) -> tuple[str | int, ...]:
    """Return the place in the spec that says how large the layer is."""
    kind = next(kind for kind, step in STEPS.items() if isinstance(layer.step, step))
    return ("network", "layers", layer.place, kind)


def refuse_too_many(layers: Sequence[Layer], samples: int) -> None:
    """Raise an `InputError` if the activations of this many samples are over the limit."""
    total = 0
    for layer in layers:
        numbers = math.prod(layer.out)
        total += samples * numbers
        if total > MAX_NUMBERS:
            message = (
                f"{samples:,} samples of {numbers:,} units take the activations over the limit of "
                f"{MAX_NUMBERS:,} numbers"
            )
            raise bad_input(message, *size_of(layer), help="check a smaller batch")
