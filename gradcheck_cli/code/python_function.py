"""A Python function that returns a loss and its gradients, as a function to check."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.call import Call
from gradcheck_cli.code.evaluation import Evaluation, elsewhere
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.function import Function
from gradcheck_cli.code.jax_remarks import narrow_jax
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import (
    first_not_finite,
    read_gradients,
    read_losses,
    read_stack,
    real,
    refuse_changed,
    refuse_mixed,
)
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Search, Tap, Taps, Watching, refuse_clashes, refuse_unused
from gradcheck_cli.code.verified import verified
from gradcheck_cli.errors import InputError
from gradcheck_cli.types import Array

_MOVED = "with slightly changed parameters"


def observed(
    code: Callee, parameters: Mapping[str, Array], x: Any, y: Any, stacked: Callee | None = None
) -> PythonFunction:
    """Call the function repeatedly to verify that its results are usable, and return it as a `Function`.

    Raises an `InputError` that points at the place where the spec names the code.

    code: the function of one point.
    parameters: the point at which to check.
    stacked: a version of the function that takes K points at once, or None.
    """
    _run_elsewhere(code, parameters, x, y)
    seen: dict[str, Tap] = {}

    def observe() -> tuple[Evaluation, tuple[str, ...]]:
        return _observe(code, parameters, x, y, seen)

    first, remarks = verified(observe, code, lambda: first_not_finite(observe))
    loss = float(first.losses.astype(np.float64).sum())
    taps = Taps(code, {name: tap for name, tap in seen.items() if name in first.gradients})
    if taps.at and stacked:
        raise code.complain("has taps, which do not work with `vectorized`", "leave `vectorized` out")
    function = PythonFunction(
        origin=str(code),
        code=code.calling(with_taps(code.value, taps)),
        parameters={**parameters, **taps.values},
        x=x,
        y=y,
        terms=len(first.losses),
        loss=loss,
        remarks=remarks,
        taps=taps,
        stacked=stacked,
    )
    refuse_mixed(function, first.apart, code)
    refuse_unused(taps, function.forward, parameters, first.gradients)
    return function


def _run_elsewhere(code: Callee, parameters: Mapping[str, Array], x: Any, y: Any) -> None:
    """Call the function at another point first, and ignore the result.

    If the function reuses values of its first call, its gradients at the point to check are then wrong.
    """
    data = [array.copy() if isinstance(array, np.ndarray) else array for array in (x, y)]
    point = elsewhere(parameters)
    with suppress(Exception), code.running(), watching(Watching(code)):
        code.value(point, *data)


def with_taps(function: Callable[..., Any], taps: Taps) -> Callable[..., Any]:
    """Return a function of parameters and taps that calls `function` with taps set to the given values."""

    def tapped(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        own, watch = taps.split(parameters)
        with watching(watch):
            return function(own, x, y)

    return tapped if taps.at else function


@dataclass(frozen=True)
class PythonFunction:
    """A function of (parameters, x, y) that returns its loss and its gradients."""

    origin: str
    code: Callee
    parameters: Mapping[str, Array]
    x: Any
    y: Any
    terms: int
    loss: float
    remarks: tuple[str, ...]
    taps: Taps
    stacked: Callee | None = None  # the author's function, if it takes a stack of parameters
    loss_name: str = "its own loss"
    weighted: str = ""
    outputs: tuple[int, ...] = ()
    stands_alone: bool = False
    takes_taps: bool = True
    findings: tuple[Finding, ...] = ()
    before: tuple[Function, ...] = ()
    other_modes: Mapping[str, Function] = field(default_factory=dict)
    others: tuple[Function, ...] = ()
    attached: Callable[[], Iterable[Attached]] = tuple

    calls: ClassVar[tuple[Call, ...]] = ()
    kernels: ClassVar[tuple[Kernel, ...]] = ()
    is_wide: ClassVar[bool] = False  # the code chooses its types

    @property
    def samples(self) -> int | None:
        return len(self.x) if isinstance(self.x, np.ndarray) and self.x.ndim else None

    @property
    def vectorized(self) -> bool:
        return self.stacked is not None

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            loss, _ = call(self.code, dict(parameters), self.x, self.y)
            losses = read_losses(loss, self.code)
        if len(losses) != self.terms:
            raise self.code.complain(
                f"returns {len(losses)} loss terms, but returned {self.terms} in an earlier call"
            )
        return losses.astype(np.float64)

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        if self.stacked is None:
            return np.stack([self.losses(point) for point in points])
        with self.code.running(_MOVED):
            loss, _ = call(self.stacked, stack(points), self.x, self.y)
            return read_stack(loss, (len(points), self.terms), self.code)

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.run(parameters).gradients

    def forward(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms, (S,), at parameters that contain no taps.

        Taps that the code passes are still reported to the current `Watch`.
        """
        with self.code.running(_MOVED):
            loss, _ = call(self.taps.code, dict(parameters), self.x, self.y)
            return read_losses(loss, self.code).astype(np.float64)

    def run(self, parameters: Mapping[str, Array]) -> Evaluation:
        """Call the function once, and return its loss terms and its gradients."""
        shapes = {name: array.shape for name, array in self.parameters.items()}
        with self.code.running(_MOVED):
            loss, gradients = call(self.code, dict(parameters), self.x, self.y)
            arrays = read_gradients(gradients, shapes, self.code)
            return Evaluation(read_losses(loss, self.code), {n: real(g) for n, g in arrays.items()})

    def sites(self, names: Sequence[str]) -> Sites:
        return NO_SITES

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        own = {name: array for name, array in self.parameters.items() if name not in self.taps.at}
        return Search(self.taps, self.forward, own).places(wrong, right) if self.taps.at else ()

    def wide_gradients(self) -> None:
        """Return None, since the code chooses its own dtypes and cannot be made to use wider ones."""


def call(code: Callee, parameters: dict[str, Array], x: Any, y: Any) -> tuple[Any, Any]:
    """Return the loss and the gradients that the code returns. Raises `InputError` for any other result."""
    result = code.value(parameters, x, y)
    if not isinstance(result, tuple | list) or len(result) != 2:
        found = f"{len(result)} values" if isinstance(result, tuple | list) else a(result)
        raise code.complain(f"returns {found}; (loss, gradients) is needed")
    if isinstance(result[0], Mapping) and not isinstance(result[1], Mapping):
        raise code.complain("returns a dict first; return the loss first, then the gradients")
    return result[0], result[1]


def stack(points: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Stack the parameters of several points along a new first axis."""
    return {name: np.stack([point[name] for point in points]) for name in points[0]}


def _observe(
    code: Callee, parameters: Mapping[str, Array], x: Any, y: Any, seen: dict[str, Tap]
) -> tuple[Evaluation, tuple[str, ...]]:
    """Call the function once. Return the losses and the gradients, including those of taps, and any remarks.

    Raises `InputError` if the function fails, does not return a loss and gradients, or changes an argument.

    seen: a dict to which the taps of the first call are added, by name.
    """
    given = {name: array.copy() for name, array in parameters.items()}
    arguments = {f"parameter '{name}'": array for name, array in given.items()}
    arguments |= {name: array for name, array in (("x", x), ("y", y)) if isinstance(array, np.ndarray)}
    before = {name: array.copy() for name, array in arguments.items()}
    watch = Watching(code)
    with _hint_at_names(given), code.running(), watching(watch):
        loss, gradients = call(code, dict(given), x, y)
        refuse_changed(before, arguments, code)
        refuse_clashes(code, watch.seen, parameters)
        losses = read_losses(loss, code)
        names = gradients if isinstance(gradients, Mapping) else ()
        for name in [name for name in watch.seen if name in names]:
            seen.setdefault(name, watch.seen[name])
        shapes = {name: array.shape for name, array in parameters.items()}
        shapes |= {name: tap.value.shape for name, tap in seen.items()}
        arrays = read_gradients(gradients, shapes, code)
    remarks = (*_aliases(arrays, arguments), *narrow_jax(code, [loss, *gradients.values()]))
    return Evaluation(losses, {name: real(array) for name, array in arrays.items()}), remarks


@contextmanager
def _hint_at_names(parameters: Mapping[str, Array]) -> Iterator[None]:
    """Add a hint to errors raised in the context if the code seems to expect other names or layouts."""
    try:
        yield
    except InputError as error:
        told = (replace(c, help=_on_names(c.message, parameters) or c.help) for c in error.complaints)
        raise InputError(*told) from None


def _on_names(failure: str, parameters: Mapping[str, Array]) -> str | None:
    if "raises KeyError" in failure:
        names = listed(parameters)
        return (
            f"the parameters are {names}; if the code uses different names, add this to the spec, under "
            "'gradients': names: {CODE_NAME: SPEC_NAME}"
        )
    of_a_network = any(name.endswith(".weight") for name in parameters)
    of_shapes = any(word in failure for word in ("matmul", "broadcast", "shapes", "aligned"))
    return _LAYOUT if "raises ValueError" in failure and of_a_network and of_shapes else None


_LAYOUT = "the weights of a network are [out, in]; if the code needs [in, out], add layout: in_out"


def _aliases(gradients: Mapping[str, Array], arguments: Mapping[str, Array]) -> tuple[str, ...]:
    return tuple(
        f"the gradient of '{name}' shares the memory of {argument}"
        for name, gradient in gradients.items()
        for argument, array in arguments.items()
        if np.may_share_memory(gradient, array)
    )
