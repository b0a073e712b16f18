"""The data and parameters in the file of the user's code, for a network whose spec names none."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.errors import bad_input
from gradcheck_cli.model.named_arrays import Author, Dialect, OwnParameters
from gradcheck_cli.sources.evaluation import as_point, named_arrays, own_data
from gradcheck_cli.sources.user_code import UserCode, load
from gradcheck_cli.spec import InlineData, PythonFunction, Spec
from gradcheck_cli.types import Array


def completed(spec: Spec) -> tuple[Spec, OwnParameters | None]:
    """The spec with data, and the parameters that the code's file defines, if the spec names none.

    A torch module holds its parameters itself. Raises `InputError` for a spec that has no data then.
    """
    of_python = isinstance(spec.gradients, PythonFunction)
    asks = spec.data is None or (of_python and spec.parameters is None)
    if spec.network is None or not asks:
        return spec, None
    where = ("gradients", "python" if of_python else "torch")
    code = load(getattr(spec.gradients, where[1]), where)
    if spec.data is None:
        spec = spec.model_copy(update={"data": _data(code, where)})
    if not isinstance(spec.gradients, PythonFunction) or spec.parameters is not None:
        return spec, None
    dialect = Dialect(spec.gradients, "gradients")
    dialect.refuse_unfit()
    own = own_parameters(code)
    author = Author(code.code.file.name, where, dialect)
    return spec, None if own is None else OwnParameters(own, author)


def own_parameters(code: UserCode) -> Mapping[str, Array] | None:
    """`parameters` of the code's own module, as they are there; None if it has none."""
    own = code.own("parameters")
    if own is None:
        return None
    with code.running("reading its parameters"):
        return as_point(named_arrays(own, code, "parameters"), ("gradients", "python"))


def _data(code: UserCode, where: tuple[str, ...]) -> InlineData:
    x, y = own_data(code)
    if x is None or y is None:
        help = f"say data: {{file: batch.npz}}, or define data in {code.code.file.name}: (x, y)"
        raise bad_input("this needs data, and neither the spec nor its code names any", *where, help=help)
    return InlineData.model_construct(x=x.tolist(), y=y.tolist(), rescale=None)
