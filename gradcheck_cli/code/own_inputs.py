"""Take data and parameters from the user's code if the spec names none for its network."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.arrays.named_arrays import Author, Dialect, OwnParameters
from gradcheck_cli.code.load import Load, UserCode, a
from gradcheck_cli.code.nested import ALONE, Nested
from gradcheck_cli.code.returned import as_point, own_array, own_data
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.data import InlineData
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array


def completed(spec: Spec, load: Load) -> tuple[Spec, OwnParameters | None]:
    """Return the spec with its data filled in, and the parameters that the code defines.

    The parameters are None if the spec names some, or if the code defines none. They are also None for a
    torch module, which holds its own parameters. Raises `InputError` if neither the spec nor the code has
    data.

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
    nested = own_nested(code)
    return None if nested is None else own_point(nested, code)


def own_nested(code: UserCode) -> Nested | None:
    """Return `parameters` from the code's module, with their nesting; None if the module defines none."""
    own = code.own("parameters")
    if own is None:
        return None
    nested = Nested(own)
    if ALONE in nested.arrays or not nested.arrays:
        message = f"'parameters' in {code.code.file.name} is {a(own)}; a dict of arrays by name is needed"
        raise bad_input(message, *code.where)
    return nested


def own_point(nested: Nested, code: UserCode) -> dict[str, Array]:
    """Return the parameters that the code's module defines, by path, converted to float64."""
    with code.running("reading its parameters"):
        arrays = {
            path: own_array(value, code, f"parameter '{path}'") for path, value in nested.arrays.items()
        }
        return as_point(arrays, code.where)


def _data(code: UserCode) -> InlineData:
    x, y = own_data(code)
    if x is None or y is None:
        help = f"add data: {{file: batch.npz}} to the spec, or define data = (x, y) in {code.code.file.name}"
        raise bad_input(
            "data are needed, but neither the spec nor the function's file defines any",
            *code.where,
            help=help,
        )
    return InlineData.model_construct(x=x.tolist(), y=y.tolist(), rescale=None)
