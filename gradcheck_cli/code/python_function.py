"""Read the user's Python function, which returns a loss and its gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from inspect import unwrap
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.arrays.named_arrays import Dialect
from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.load import Callee, Load, UserCode, a, load
from gradcheck_cli.code.nested import Nested
from gradcheck_cli.code.objective import Function, Inputs
from gradcheck_cli.code.own_inputs import own_nested, own_point
from gradcheck_cli.code.returned import (
    Evaluation,
    as_point,
    first_not_finite,
    first_of_two,
    plain,
    read_gradients,
    read_losses,
    read_stack,
    real,
    refuse_changed,
    refuse_mixed,
    samples,
    taking_data,
)
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Search, Tap, Taps, Watching, refuse_clashes, refuse_unused
from gradcheck_cli.code.verified import verified
from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.network.shifted import INPUTS
from gradcheck_cli.spec.gradients import NetworkCode
from gradcheck_cli.types import Array

_MOVED = "with slightly changed parameters"


def read(source: NetworkCode, inputs: Inputs, load: Load = load) -> Function:
    """Load a function f(parameters, x, y) → (loss, gradients), and call it repeatedly to verify it.

    If there are no data, the function may also take the parameters alone: f(parameters).

    The loss is a number, or an array of S terms, one per sample. The terms must **add up to L** (for a mean
    over N samples, divide each sample's loss by N); terms have 10 to 20 times less rounding noise than L. A
    vectorized function takes K points at once: every parameter gets a first axis of length K, (K, …), and the
    function returns losses of shape (K,) or (K, S) and gradients of shape (K, …).

    If the spec has no parameters, they come from `parameters` in the function's module: a dict of arrays by
    name, or a function that returns one. If the spec has no data, they come from a pair (x, y) named `data`
    in the function's module, if there is one. If the gradients include one named `input`, it is checked as
    ∂L/∂x.

    Raises an `InputError` that points at the offending place in the spec if the code fails, does not return a
    loss and gradients, changes its arguments, or returns different results for the same arguments.
    """
    code, dialect = load(source.code, source.where), Dialect(source, "gradients")
    nested = _nested(inputs, code)
    parameters, (x, y) = _point(inputs, code, nested, dialect), samples(inputs, code)
    dialect.refuse_unfit({**parameters, INPUTS: x} if inputs.checks_inputs else parameters)
    function = taking_data(code.value, x, y)
    if nested is not None and nested.arrays.keys() == dialect.theirs(parameters).keys():
        function = nested.called_by_path(function)
    function = _in_its_words(function, dialect, source.vectorized)
    if inputs.checks_inputs:
        parameters = {**parameters, INPUTS: _differentiable(x, parameters, source.vectorized)}
        function = _of_inputs(function)
    code = code.calling(function)
    if source.vectorized:
        return observed(code.calling(_of_one(code)), parameters, x, y, stacked=code)
    return observed(code, parameters, x, y)


def observed(
    code: Callee, parameters: Mapping[str, Array], x: Any, y: Any, stacked: Callee | None = None
) -> PythonFunction:
    """Call the function repeatedly to verify that its results are usable, and return it as a `Function`.

    Raises an `InputError` that points at the place where the spec names the code.

    code: the function of one point.
    parameters: the point at which to check.
    stacked: a version of the function that takes K points at once, or None.
    """
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
        code=code.calling(_with_taps(code.value, taps)),
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


def _with_taps(function: Callable[..., Any], taps: Taps) -> Callable[..., Any]:
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
    stands_alone: bool = False
    takes_taps: bool = True
    findings: tuple[Finding, ...] = ()
    before: tuple[Function, ...] = ()
    other_modes: Mapping[str, Function] = field(default_factory=dict)
    others: tuple[Function, ...] = ()
    attached: Callable[[], Iterable[Attached]] = tuple
    is_wide: ClassVar[bool] = False  # the code chooses its types

    @property
    def samples(self) -> int | None:
        return len(self.x) if isinstance(self.x, np.ndarray) and self.x.ndim else None

    @property
    def vectorized(self) -> bool:
        return self.stacked is not None

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.code.running(_MOVED):
            loss, _ = _call(self.code, dict(parameters), self.x, self.y)
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
            loss, _ = _call(self.stacked, _stack(points), self.x, self.y)
            return read_stack(loss, (len(points), self.terms), self.code)

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        shapes = {name: array.shape for name, array in self.parameters.items()}
        with self.code.running(_MOVED):
            _, gradients = _call(self.code, dict(parameters), self.x, self.y)
            return {name: real(g) for name, g in read_gradients(gradients, shapes, self.code).items()}

    def forward(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms, (S,), at parameters that contain no taps.

        Taps that the code passes are still reported to the current `Watch`.
        """
        with self.code.running(_MOVED):
            loss, _ = _call(self.taps.code, dict(parameters), self.x, self.y)
            return read_losses(loss, self.code).astype(np.float64)

    def sites(self, names: Sequence[str]) -> Sites:
        return NO_SITES

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        own = {name: array for name, array in self.parameters.items() if name not in self.taps.at}
        return Search(self.taps, self.forward, own).places(wrong, right) if self.taps.at else ()

    def wide_gradients(self) -> None:
        """Return None, since the code chooses its own dtypes and cannot be made to use wider ones."""


def _nested(inputs: Inputs, code: UserCode) -> Nested | None:
    """Return the parameters that the module defines, in the module's nesting; None if it defines none.

    If the spec names the parameters, the result is also None if the module's parameters are unusable.
    """
    if inputs.parameters is None:
        return own_nested(code)
    with suppress(InputError):  # the spec gives the parameters, so those of the module need not be usable
        return own_nested(code)
    return None


def _point(inputs: Inputs, code: UserCode, nested: Nested | None, dialect: Dialect) -> Mapping[str, Array]:
    if inputs.parameters is not None:
        return as_point(inputs.parameters, ("parameters", "file"))
    if nested is None:
        file = code.code.file.name
        help = (
            f"define 'parameters' in {file}, as a dict of arrays or a function that returns such a dict, or "
            "add a 'parameters' section to the spec"
        )
        raise code.complain(
            "has no parameters to start from: neither the spec nor the function's file defines any", help
        )
    return dialect.ours(own_point(nested, code))


def _differentiable(x: Any, parameters: Mapping[str, Array], vectorized: bool) -> Array:
    """Return x if it can have a gradient; otherwise raise an `InputError`."""
    if vectorized:
        problem = "does not work with a vectorized function, which takes one x for all points"
    elif not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        problem = f"needs an x of real numbers, not {x.dtype if isinstance(x, np.ndarray) else a(x)}"
    elif INPUTS in parameters:
        problem = f"needs the name '{INPUTS}' for the gradient of x, but a parameter already has that name"
    else:
        return x
    raise bad_input(
        f"'inputs' {problem}", "check", "inputs", help="leave 'inputs' out to check the parameters alone"
    )


def _of_inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of parameters and x into one whose parameters include x, under the name `input`."""

    def with_inputs(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        own = {name: array for name, array in parameters.items() if name != INPUTS}
        return function(own, parameters[INPUTS], y)

    return with_inputs


def _in_its_words(function: Callable[..., Any], dialect: Dialect, stacked: bool) -> Callable[..., Any]:
    """Return a version of `function` that uses gradcheck's names and layout for parameters and gradients.

    If `function` itself uses other names or another layout, the new version translates them.

    stacked: whether `function` takes a stack of points.
    """
    if not dialect.says_otherwise:
        return function
    to = dialect.stacks_of_theirs if stacked else dialect.theirs
    back = dialect.stacks_of_ours if stacked else dialect.ours

    def translated(parameters: dict[str, Array], x: Any, y: Any) -> Any:
        match function(to(parameters), x, y):
            case (loss, Mapping() as gradients):
                return loss, back({str(name): plain(gradient) for name, gradient in gradients.items()})
            case other:
                return other

    return translated


def _call(code: Callee, parameters: dict[str, Array], x: Any, y: Any) -> tuple[Any, Any]:
    result = code.value(parameters, x, y)
    if not isinstance(result, tuple | list) or len(result) != 2:
        found = f"{len(result)} values" if isinstance(result, tuple | list) else a(result)
        raise code.complain(f"returns {found}; (loss, gradients) is needed")
    if isinstance(result[0], Mapping) and not isinstance(result[1], Mapping):
        raise code.complain("returns a dict first; return the loss first, then the gradients")
    return result[0], result[1]


def _stack(points: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([point[name] for point in points]) for name in points[0]}


def _of_one(stacked: Callee) -> Callable[..., Any]:
    """Return a function of one point, which calls the function of K points with two copies of that point."""

    def function(parameters: dict[str, Array], x: Array | None, y: Array | None) -> tuple[Array, Any]:
        loss, gradients = _call(stacked, _stack([parameters, parameters]), x, y)
        if not isinstance(gradients, Mapping):
            return first_of_two(loss, "a loss", stacked), gradients
        firsts = {n: first_of_two(g, f"the gradient of '{n}'", stacked) for n, g in gradients.items()}
        return first_of_two(loss, "a loss", stacked), firsts

    return function


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
        loss, gradients = _call(code, dict(given), x, y)
        refuse_changed(before, arguments, code)
        refuse_clashes(code, watch.seen, parameters)
        losses = read_losses(loss, code)
        names = gradients if isinstance(gradients, Mapping) else ()
        for name in [name for name in watch.seen if name in names]:
            seen.setdefault(name, watch.seen[name])
        shapes = {name: array.shape for name, array in parameters.items()}
        shapes |= {name: tap.value.shape for name, tap in seen.items()}
        arrays = read_gradients(gradients, shapes, code)
    remarks = (*_aliases(arrays, arguments), *_narrow_jax(code, [loss, *gradients.values()]))
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


def _narrow_jax(code: Callee, returned: Sequence[Any]) -> Iterator[str]:
    """Yield a remark if jax computed the returned values in float32."""
    jax = sys.modules.get("jax")
    if jax is None or jax.config.jax_enable_x64 or not any(map(_is_float32, returned)):
        return
    if any(map(_is_of_jax, (*returned, *_in_sight_of(code.value)))):
        yield "jax computes in float32; for a finer check, call jax.config.update('jax_enable_x64', True)"


def _in_sight_of(function: Any) -> Iterator[Any]:
    """Yield the objects that a function can refer to: its globals and the variables of its closure."""
    function = unwrap(function)
    yield from getattr(function, "__globals__", {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # the cell is empty
            yield cell.cell_contents


def _is_float32(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "float32"


def _is_of_jax(value: Any) -> bool:
    """Return whether the object is a jax array, a jax module, or a function transformed by jax."""
    if isinstance(value, ModuleType):
        module = value.__name__
    else:
        module = getattr(value, "__globals__", {}).get("__name__") or type(value).__module__
    return str(module).split(".")[0] in ("jax", "jaxlib")


def _aliases(gradients: Mapping[str, Array], arguments: Mapping[str, Array]) -> tuple[str, ...]:
    return tuple(
        f"the gradient of '{name}' shares the memory of {argument}"
        for name, gradient in gradients.items()
        for argument, array in arguments.items()
        if np.may_share_memory(gradient, array)
    )
