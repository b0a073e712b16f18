"""Read a function that a program passes to `check_gradients` instead of naming it in a spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.load import a
from gradcheck_cli.code.nested import ALONE, Nested
from gradcheck_cli.code.one_type import hinting_at_a_reference
from gradcheck_cli.code.python_function import observed
from gradcheck_cli.code.referenced_function import referenced
from gradcheck_cli.code.returned import as_point, in_two_parts, plain, takes, taking_data
from gradcheck_cli.code.signature import parameter_names
from gradcheck_cli.errors import InputError, Location, bad_input


def read(
    function: Callable[..., Any], parameters: Any, x: Any, y: Any, reference: Callable[..., Any] | None = None
) -> tuple[Function, Inputs]:
    """Return the function and its inputs, in the form used for functions that a spec names.

    Raises `InputError` if the function does not return a loss and gradients, changes its arguments, or
    returns different results for the same arguments. Exceptions raised by the function propagate.

    function: the user's function of (parameters, x, y), (parameters, x) or (parameters).
    parameters: a single array, or arrays in dicts, lists, tuples and dataclasses, nested to any depth. The
        function receives them nested in this way, and returns its gradients nested in the same way.
    x, y: the data, passed on unchanged.
    reference: a function of the same arguments that computes the same loss in float64; None if there is none.
    """
    if not callable(function):
        raise bad_input(f"{a(function)} cannot be called; a function is needed")
    if not takes(with_data := taking_data(function, x, y), {}, x, y):
        help = f"it takes {listed(parameter_names(function))}; all parameters must come in one argument"
        raise given(function).complain("cannot be called as f(parameters, x, y) or f(parameters)", help)
    nested = Nested(parameters)
    point, code = _point(nested.arrays), given(function)
    code = code.calling(nested.called_by_path(with_data))
    if reference is None:
        with hinting_at_a_reference(nested.arrays.values()):
            return observed(code, point, x, y), Inputs(point, None, None)
    if not callable(reference):
        raise bad_input(f"reference is {a(reference)}; a function is needed")
    wide = given(reference).calling(nested.called_by_path(taking_data(reference, x, y)))
    return referenced(code, wide, point, nested.arrays, x, y), Inputs(point, None, None)


def given(function: Callable[..., Any]) -> Given:
    """Wrap a function that the caller passed in, and record its name for messages."""
    own = function if hasattr(function, "__name__") else type(function)
    try:
        file = inspect.getsourcefile(inspect.unwrap(own)) or ""
    except (TypeError, OSError):  # it is not written in Python
        file = ""
    return Given(str(own.__name__), function, Path(file))


@dataclass(frozen=True)
class Given:
    """A function that the caller passed in. Exceptions that it raises propagate to the caller."""

    name: str
    value: Callable[..., Any]
    file: Path

    where: ClassVar[Location] = ()

    def __str__(self) -> str:
        return self.name

    def calling(self, function: Callable[..., Any]) -> Self:
        return replace(self, value=function)

    @contextmanager
    def running(self, circumstances: str = "") -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            if circumstances:
                error.add_note(f"gradcheck called {self.name} {circumstances}.")
            raise

    def complain(self, message: str, help: str | None = None) -> InputError:
        return bad_input(f"{self.name} {message}", help=help)


def _array(name: str, value: Any) -> Any:
    """Convert a parameter's value to an array. Raises `InputError` if the value is not made of numbers.

    name: the parameter's name, for the message.
    """
    if (array := plain(value)).dtype.kind != "O":
        return array
    called = "the parameters are" if name == ALONE else f"parameter '{name}' is"
    needed = "a dict of arrays by name, or an array" if name == ALONE else "an array of numbers"
    raise bad_input(f"{called} {a(value)}; {needed} is needed")


def _point(parameters: Mapping[str, Any]) -> dict[str, Any]:
    if not parameters:
        raise bad_input("there are no parameters; pass a dict of arrays by name, or an array")
    arrays = {str(name): _array(str(name), value) for name, value in parameters.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            message = f"parameter '{name}' has dtype {array.dtype}; real numbers are needed"
            raise bad_input(message, help=in_two_parts(array))
    return as_point(arrays, ())
