"""Read the user's layer: a forward and a backward function in one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.layer_function import layer_function
from gradcheck_cli.code.load import Load, UserCode, a, load, referred
from gradcheck_cli.code.referenced_layer import referenced_layer
from gradcheck_cli.code.returned import samples
from gradcheck_cli.code.signature import parameter_names
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.gradients import FromCode, WithReference

_OWN = ("inputs", "parameters")
"""The names under which a module may define the arguments of all forward functions in it.

The arguments are a dict, or a function that returns one. If a module defines several of these names, the
first name counts. If there is a dict for one function alone, such as affine_inputs for affine_forward, that
dict counts.
"""


def read(source: WithReference, inputs: Inputs, load: Load = load) -> Function:
    """Load forward and backward, and call them repeatedly to verify them.

    The arguments of forward come from `inputs` in forward's module: a dict by name, or a function that
    returns one. Parameters and data that the spec names replace the arguments of the same name; the data are
    named `x` and `y`.

    With a reference, forward and backward are called in the types of their arguments. The reference has a
    backward function, too, if its module has one whose name says backward in place of forward.

    Raises an `InputError` that points at the offending place in the spec if the functions fail, do not fit
    together, change their arguments, or return different results for the same arguments.
    """
    if inputs.problem is not None:
        help = "leave 'network' out; the layer is checked on its own, with the loss Σ c · out"
        raise bad_input("a spec for a layer cannot have a network", "network", help=help)
    forward = load(source.code, source.where)
    backward = _backward(source, forward)
    arguments = _arguments(forward, inputs)
    (outputs,) = (getattr(source, key) for key in source.kind.counts)
    if source.reference:
        reference = _with_backward(referred(source, forward, load))
        return referenced_layer(forward, backward, arguments, outputs, source.where, reference)
    return layer_function(forward, backward, arguments, outputs, source.where)


def _with_backward(reference: UserCode) -> tuple[UserCode, ...]:
    """Return the reference and, if its module has one, the backward function named like it."""
    name = reference.code.name.replace("forward", "backward")
    if name == reference.code.name or not hasattr(reference.module, name):
        return (reference,)
    return reference, reference.another(name, reference.where)


def _backward(source: FromCode, forward: UserCode) -> UserCode:
    (key,) = source.kind.functions
    name = getattr(source, key) or source.code.name.replace("forward", key)
    if name == source.code.name:
        raise forward.complain("has no backward function", f"under 'gradients', add {key}: NAME")
    said = key in source.model_fields_set
    return forward.another(name, ("gradients", key) if said else source.where)


def _arguments(forward: UserCode, inputs: Inputs) -> dict[str, Any]:
    alone = forward.code.name.replace("forward", "inputs")
    names = (*([alone] if alone != forward.code.name else []), *_OWN)
    found, own = next(((n, value) for n in names if (value := forward.own(n)) is not None), ("", {}))
    if not isinstance(own, Mapping):
        raise forward.complain(f"needs a dict of its arguments by name, but '{found}' is {a(own)}")
    x, y = samples(inputs, forward)
    taken = parameter_names(forward.value)
    data = {name: value for name, value in (("x", x), ("y", y)) if value is not None and name in taken}
    arguments = {**{str(name): value for name, value in own.items()}, **data, **(inputs.parameters or {})}
    if not arguments:
        file = forward.code.file.name
        help = f"define 'inputs' in {file}: a dict of the arguments, or a function that returns such a dict"
        raise forward.complain("has no arguments: neither the spec nor the function's file defines any", help)
    return arguments
