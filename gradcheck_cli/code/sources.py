"""Read the user's code, whatever its kind: a Python function, a layer, or a torch module.

A new code source needs a row in `CODE_SOURCES`, a module that reads it, and a starter in `spec/starters`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from gradcheck_cli.arrays.named_arrays import OwnParameters
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.gradients import FromCode
from gradcheck_cli.spec.spec import Spec

if TYPE_CHECKING:
    from gradcheck_cli.code.function import Function, Inputs
    from gradcheck_cli.code.load import Load


def with_own_inputs(spec: Spec) -> tuple[Spec, OwnParameters | None]:
    """Return the spec with its data filled in from its code, and the parameters that the code defines.

    Data that the spec names are kept. The parameters are None if the spec names some, or if the code defines
    none. No gradients are computed. Raises `InputError` if the code fails, or if neither the spec nor the
    code defines data.
    """
    code = spec.names_code
    if code is None or not spec.asks_code or not (spec.data is None or os.path.exists(code.file)):
        return spec, None
    from gradcheck_cli.code.load import load
    from gradcheck_cli.code.own_inputs import completed

    return completed(spec, load)


def read_code(source: FromCode, inputs: Inputs, load: Load | None = None) -> Function:
    """Load the code that the spec names, verify it with a few calls, and return it as a `Function`.

    Raises an `InputError` that points at the offending place in the spec if the code cannot be used.

    load: the function that loads the code; `gradcheck_cli.code.load.load` by default.
    """
    if inputs.checks_inputs and source.kind.without_inputs:
        message = f"'inputs' does not work with {source.kind.what}"
        raise bad_input(message, "check", "inputs", help=source.kind.without_inputs)
    for key, is_asked in {"order: 2": inputs.order > 1, **_modes(inputs)}.items():
        if is_asked:
            _refuse_without_autodiff(source, inputs, key)
    refuse_modes_of_second_order(inputs, "check")
    loaded_by = () if load is None else (load,)
    function: Function = import_module(source.kind.reader).read(source, inputs, *loaded_by)
    return function


def refuse_modes_of_second_order(inputs: Inputs, *where: str) -> None:
    """Raise an `InputError` if second derivatives and another mode are asked for together.

    where: the section of the spec that asks for them; empty if a call asks for them.
    """
    for mode, is_asked in _modes(inputs).items():
        if is_asked and inputs.order > 1:
            at = (*where, mode) if where else ()
            raise bad_input(f"'{mode}' does not work with 'order: 2'", *at, help="check the two separately")


def _modes(inputs: Inputs) -> dict[str, bool]:
    """Return whether each further mode of differentiation is asked for, by its setting."""
    return {"forward_mode": inputs.forward_mode, "batched": inputs.batched}


def _refuse_without_autodiff(source: FromCode, inputs: Inputs, key: str) -> None:
    """Raise an `InputError` if the spec asks for `key`, but gradcheck cannot differentiate the code.

    key: the setting that needs derivatives by gradcheck: "order: 2" or "forward_mode".
    """
    where = ("check", key.partition(":")[0])
    if not source.kind.is_differentiable:
        help = "it needs code in torch or jax, which gradcheck can differentiate"
        raise bad_input(f"'{key}' does not work with {source.kind.what}", *where, help=help)
    if inputs.problem is not None:
        message = f"'{key}' does not work with a network section"
        raise bad_input(message, *where, help="leave the network section out")
