"""A layer in a type of its own, whose outputs are held against those of a reference in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.code.convention import Convention, as_results, convention_of
from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.layer import Layer, given_to, in_the_form_of, in_the_type_of
from gradcheck_cli.code.layer_function import LayerFunction, layer_function
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.referenced import Referenced, taps_of_reference
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.signature import called, in_order
from gradcheck_cli.errors import Location
from gradcheck_cli.types import Array


def referenced_layer(
    forward: Callee,
    backward: Callee,
    arguments: Mapping[str, Any],
    outputs: int | None,
    where: Location,
    reference: tuple[Callee, ...],
) -> Referenced:
    """Return a layer as a function to check, with the losses of a reference that takes the same arguments.

    forward and backward get their arguments in the types of `arguments`, and the reference gets them in
    float64.
    reference: its forward function and, if there is one, its backward function.
    Raises `InputError` if the layer cannot be used, or if the reference computes other outputs.
    """
    layer = layer_function(forward, backward, arguments, outputs, where, in_the_type_of)
    wide = _reference(layer, reference)
    first = _compared(layer, wide, bool(reference[1:]))
    others = tuple(
        _compared(other, replace(wide, upstream=other.upstream), False)
        for other in layer.others
        if isinstance(other, LayerFunction)
    )
    return replace(first, others=others)


def _reference(kernel: LayerFunction, reference: tuple[Callee, ...]) -> LayerFunction:
    """Return the reference as a layer in float64, at the same point and with the same upstream.

    A reference without a backward function only computes losses.
    """
    forward, *backward = reference
    given = {
        name: in_the_form_of(value, plain(value).astype(np.float64)) if name in kernel.layer.floats else value
        for name, value in kernel.layer.arguments.items()
    }
    given = in_order(forward, given)
    with forward.running():
        result = called(forward.value, given_to(given, kernel.parameters, in_the_form_of))
    outputs = kernel.layer.convention.outputs
    if backward:
        convention = convention_of(forward, backward[0], result, given, outputs)
    else:
        convention = Convention(outputs, len(as_results(result)), False, ())
    taps = taps_of_reference(
        forward,
        kernel.layer.taps,
        lambda: called(forward.value, given_to(given, kernel.parameters, in_the_form_of)),
    )
    layer = Layer(forward, reference[-1], given, convention, taps, in_the_form_of)
    return LayerFunction(layer, kernel.parameters, kernel.upstream, 0.0, ())


def _compared(kernel: LayerFunction, wide: LayerFunction, differentiates: bool) -> Referenced:
    """Return the layer with its reference, after comparing the outputs of the two."""
    narrow = replace(wide, layer=replace(wide.layer, arguments=kernel.layer.arguments, form=in_the_type_of))
    types, weights = kernel.types, _named(kernel.upstream.weights)
    own = {name: array for name, array in kernel.parameters.items() if name not in kernel.layer.taps.at}
    made = Kernel(
        kernel.layer.forward,
        str(wide.layer.forward),
        {**own, **weights},
        {**{name: types.arguments[name] for name in own}, **_named(types.outputs)},
        types.gradients,
        partial(_run, kernel),
        wide.losses,
        ((partial(_run, narrow), partial(_run, wide)),) if differentiates else (),
    )
    made.refuse_another_forward()
    return Referenced(kernel, wide, (made,))


def _named(of_outputs: Sequence[Any]) -> dict[str, Any]:
    """Return these values by a name for each output's upstream, which no argument can have."""
    return {f"∂L/∂out {i}": value for i, value in enumerate(of_outputs)}


def _run(layer: LayerFunction, point: Mapping[str, Array]) -> Evaluation:
    """Run the layer at a point that holds its arguments and its upstream, without shifts of its taps."""
    weights = tuple(point[name] for name in _named(layer.upstream.weights))
    return layer.run({name: point[name] for name in layer.parameters if name in point}, weights)
