"""Take data and parameters from the user's code, for a network whose spec names none."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.arrays.named_arrays import Author, Dialect, OwnParameters
from gradcheck_cli.code.load import Load, UserCode
from gradcheck_cli.code.returned import as_point, named_arrays, own_data
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.data import InlineData
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array


def completed(spec: Spec, load: Load) -> tuple[Spec, OwnParameters | None]:
    """Return the spec with its data filled in and, if it names no parameters, those that the code defines.

    The parameters are None if the spec names some or the code defines none. They are also None for a torch
    module, which holds its own. Raises `InputError` if neither the spec nor the code has data.
    load: the function that loads the code.
    """
    source = spec.gradients
    if spec.network is None or not spec.asks_code or not isinstance(source, NetworkCode):
        return spec, None
    code = load(source.code, source.where)
    if spec.data is None:
        spec = spec.model_copy(update={"data": _data(code)})
    if not source.kind.brings_parameters or spec.parameters is not None:
        return spec, None
    dialect = Dialect(source, "gradients")
    dialect.refuse_unfit()
    own = own_parameters(code)
    author = Author(code.code.file.name, source.where, dialect)
    return spec, None if own is None else OwnParameters(own, author)


def own_parameters(code: UserCode) -> Mapping[str, Array] | None:
    """Return `parameters` from the code's module, converted to float64; None if the module defines none."""
    own = code.own("parameters")
    if own is None:
        return None
    with code.running("reading its parameters"):
        return as_point(named_arrays(own, code, "parameters"), code.where)


def _data(code: UserCode) -> InlineData:
    x, y = own_data(code)
    if x is None or y is None:
        help = f"add data: {{file: batch.npz}} to the spec, or define data = (x, y) in {code.code.file.name}"
        raise bad_input("this needs data, and neither the spec nor its code has any", *code.where, help=help)
    return InlineData.model_construct(x=x.tolist(), y=y.tolist(), rescale=None)
