"""A Python function in a type of its own, whose loss is held against that of a reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.layer import Form, in_the_form_of, in_the_type_of
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.python_function import PythonFunction, observed, with_taps
from gradcheck_cli.code.referenced import Referenced, taps_of_reference
from gradcheck_cli.code.returned import plain, read_gradients, read_losses, real, type_of
from gradcheck_cli.code.tapped import Search, Taps
from gradcheck_cli.types import Array

_MOVED = "with slightly changed parameters"


@dataclass(frozen=True)
class ReferenceFunction:
    """A function of (parameters, x, y) that returns a loss, or a loss and its gradients.

    parameters: the parameters at which the gradients are checked, without taps.
    taps: the taps whose gradients the kernel returns.
    """

    code: Callee
    parameters: Mapping[str, Array]
    x: Any
    y: Any
    taps: Taps

    @property
    def computes_gradients(self) -> bool:
        return self._called(self.parameters)[1] is not None

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            return read_losses(self._called(parameters)[0], self.code).astype(np.float64)

    def run(self, parameters: Mapping[str, Array]) -> Evaluation:
        """Return the loss terms and the gradients. Raises `InputError` if there are no gradients."""
        with self.code.running(_MOVED):
            loss, gradients = self._called(parameters)
            known = {**self.parameters, **{n: v for n, v in self.taps.values.items() if n in gradients}}
            shapes = {name: array.shape for name, array in known.items()}
            arrays = read_gradients(gradients, shapes, self.code)
            return Evaluation(read_losses(loss, self.code), {n: real(g) for n, g in arrays.items()})

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        return Search(self.taps, self.losses, self.parameters).places(wrong, right) if self.taps.at else ()

    def _called(self, parameters: Mapping[str, Array]) -> tuple[Any, Any]:
        match with_taps(self.code.value, self.taps)(dict(parameters), self.x, self.y):
            case (loss, Mapping() as gradients):
                return loss, gradients
            case loss:
                return loss, None


def referenced(
    code: Callee,
    reference: Callee,
    parameters: Mapping[str, Array],
    templates: Mapping[str, Any],
    x: Any,
    y: Any,
) -> Referenced:
    """Return a function to check, with the losses of a reference that takes the same arguments.

    code, reference: functions of (parameters, x, y). The first gets its parameters in the types of
        `templates`, and the second gets parameters and data in float64.
    parameters: the point at which to check, rounded to those types.
    Raises `InputError` if either function cannot be used, or if they compute different losses.
    """
    kernel = observed(code.calling(_taking(code.value, templates, in_the_type_of)), parameters, x, y)
    taking = _taking(reference.value, templates, in_the_form_of)
    x64, y64 = _widened(x), _widened(y)
    taps = taps_of_reference(reference, kernel.taps, lambda: taking(dict(parameters), x64, y64))
    wide = ReferenceFunction(reference.calling(taking), parameters, x64, y64, taps)
    narrow = replace(
        wide, code=reference.calling(_taking(reference.value, templates, in_the_type_of)), x=x, y=y
    )
    made = Kernel(
        code,
        str(reference),
        parameters,
        {name: type_of(templates[name]) for name in parameters},
        _types_of_gradients(kernel),
        kernel.run,
        wide.losses,
        ((narrow.run, wide.run),) if _computes_gradients(wide) else (),
    )
    made.refuse_another_forward()
    return Referenced(kernel, wide, (made,))


def _computes_gradients(wide: ReferenceFunction) -> bool:
    with wide.code.running():
        return wide.computes_gradients


def _types_of_gradients(kernel: PythonFunction) -> dict[str, np.dtype[Any]]:
    with kernel.code.running():
        _, gradients = kernel.code.value(dict(kernel.parameters), kernel.x, kernel.y)
    return {name: type_of(gradients[name]) for name in kernel.parameters}


def _taking(function: Callable[..., Any], templates: Mapping[str, Any], form: Form) -> Callable[..., Any]:
    """Return a function that passes each parameter on in the form of its template."""

    def taking(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        return function({name: form(templates[name], array) for name, array in parameters.items()}, x, y)

    return taking


def _widened(value: Any) -> Any:
    """Return an array of floats in float64; anything else is returned unchanged."""
    if not hasattr(value, "dtype") or plain(value).dtype.kind != "f":
        return value
    return in_the_form_of(value, plain(value).astype(np.float64))
