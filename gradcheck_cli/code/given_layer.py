"""Read a forward and a backward function that a program passes to `check_layer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.given_function import given
from gradcheck_cli.code.layer_function import layer_function
from gradcheck_cli.code.load import a
from gradcheck_cli.code.referenced_layer import referenced_layer
from gradcheck_cli.code.signature import parameter_names
from gradcheck_cli.errors import bad_input


def read_layer(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Any,
    outputs: int | None,
    reference: Any = (),
) -> tuple[Function, Inputs]:
    """Return the layer and its inputs, in the form used for layers that a spec names.

    Raises `InputError` if the layer cannot be checked. Exceptions raised by the functions propagate.

    inputs: the arguments of forward: a dict by name, a tuple or list in order, or a single array.
    outputs: the number of forward's outputs; None to infer it.
    reference: a function that computes the same outputs in float64, or such a function with its backward
        function in a tuple; empty if there is none.
    """
    pair = tuple(reference) if isinstance(reference, tuple | list) else (reference,)
    given_functions = (("forward", forward), ("backward", backward), *(("reference", each) for each in pair))
    for name, value in given_functions:
        if not callable(value):
            raise bad_input(f"{name} is {a(value)}; a function is needed")
    layer = given(forward), given(backward), _named(forward, inputs), outputs, ()
    function: Function = referenced_layer(*layer, tuple(map(given, pair))) if pair else layer_function(*layer)
    return function, Inputs(function.parameters, None, None)


def _named(forward: Callable[..., Any], inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return {str(name): value for name, value in inputs.items()}
    if not isinstance(inputs, tuple | list | float) and not hasattr(inputs, "dtype"):
        needed = "a dict of arguments by name, a tuple in order, or an array"
        raise bad_input(f"inputs is {a(inputs)}; {needed} is needed")
    values = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    names = parameter_names(forward)
    return {names[i] if i < len(names) else f"arg{i}": value for i, value in enumerate(values)}
