"""Read a function of jax. Its gradients come from jax, which applies the function's own derivative rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import PROJECTED, SECOND, SENTENCE, WEIGHTED_OUTPUTS, drawn
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Finding
from gradcheck_cli.code.function import FORWARD, Function, Inputs
from gradcheck_cli.code.jax_attached import attached
from gradcheck_cli.code.jax_loss import (
    JaxArray,
    Leaves,
    Outputs,
    Terms,
    drawn_upstreams,
    imported,
    in_float64,
    outputs_of,
    projected,
)
from gradcheck_cli.code.load import Callee, Load, load
from gradcheck_cli.code.nested import Nested
from gradcheck_cli.code.own_inputs import own_nested
from gradcheck_cli.code.python_function import PythonFunction, observed
from gradcheck_cli.code.reruns import FACTOR, disproportion, not_in_proportion
from gradcheck_cli.code.returned import as_point, hinted, plain, same, samples, taking_data
from gradcheck_cli.errors import bad_input
from gradcheck_cli.spec.gradients import FromCode
from gradcheck_cli.types import Array

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

_PARTS = ("real", "imag")
_APART = 1e-6
"""The largest difference between results with and without jax.jit, relative to the largest entry."""

_ONLY_JAX = "gradcheck differentiates the function with jax: compute with jax.numpy, not with numpy"
_NO_JVP = "forward mode needs a jvp: use jax.custom_jvp, from which jax also derives reverse mode"
_TWICE = "'order: 2' differentiates the derivative rules: write them with jax.numpy, or check only 'order: 1'"


def read(source: FromCode, inputs: Inputs, load: Load = load) -> Function:
    """Load a function f(parameters, x, y) of jax, and differentiate it with jax.grad, in float64.

    If f returns a real number, that number is the loss L. Otherwise, L = Σ c · out over all of its outputs,
    with c drawn at random. If there are no data, f may also take the parameters alone.

    If the spec has no parameters, they come from `parameters` in the function's module. A complex parameter
    is checked as two real ones, NAME.real and NAME.imag. Raises an `InputError` that points at the offending
    place in the spec if the code fails or cannot be differentiated.
    """
    if inputs.problem is not None:
        help = (
            "leave the network section out, or return the loss and its gradients and name the function "
            "under 'python'"
        )
        raise bad_input("a network section does not work with a jax function", "network", help=help)
    if inputs.batched:
        help = "'batched' is for torch's is_grads_batched; for jax, check a function that calls jax.vmap"
        raise bad_input("'batched' does not work with jax code", "check", "batched", help=help)
    jax, code = imported(source.where), load(source.code, source.where)
    x, y = samples(inputs, code)
    nested = own_nested(code)
    given = inputs.parameters if nested is None else nested.arrays
    if given is None:
        help = f"define 'parameters' in {code.file.name} as a dict of arrays, or set 'parameters' to a file"
        raise code.complain("has no parameters: neither the spec nor the function's file defines any", help)
    return differentiated(jax, code, nested or Nested(dict(given)), inputs, (x, y))


def differentiated(jax: Any, code: Callee, nested: Nested, inputs: Inputs, data: tuple[Any, Any]) -> Function:
    """Return the function as a `Function` that jax differentiates, after calling it to verify it.

    nested: the parameters in their author's nesting.
    data: x and y.
    """
    arrays = {path: plain(value) for path, value in nested.arrays.items()}
    point = as_point({**_in_parts(arrays), **(inputs.parameters or {})}, code.where)
    called = taking_data(code.value, *data)

    def function(leaves: Leaves, x: Any, y: Any) -> Any:
        return called(nested.filled(_whole(arrays, leaves)), x, y)

    with code.running(), in_float64(jax):
        shapes = [out.shape for out in outputs_of(jax, function(_on_device(jax, point), *data))]
    if not shapes:
        raise code.complain("returns no array of floats", "return the loss, or outputs that have a gradient")
    outputs = Outputs(jax, function, drawn_upstreams(shapes))
    with hinted(_ONLY_JAX):
        first = _first(jax, code, outputs, point, data)
    if inputs.forward_mode:
        with hinted(_NO_JVP):
            first = replace(first, other_modes={FORWARD: _in_forward_mode(jax, first, outputs)})
    if inputs.order == 1:
        return first
    with hinted(_TWICE):
        second = _second(jax, code, outputs, point, data)
    return replace(second, before=(first, *first.others))


def _first(
    jax: Any, code: Callee, outputs: Outputs, point: Mapping[str, Array], data: tuple[Any, Any]
) -> PythonFunction:
    function = _observed(jax, code, outputs, point, data)
    if outputs.weights:
        sizes = tuple(c.size for c in outputs.weights.values())
        function = replace(function, loss_name=WEIGHTED_OUTPUTS, weighted=SENTENCE, outputs=sizes)
    return _with_a_scaled_loss(jax, function, outputs)


def _second(
    jax: Any, code: Callee, outputs: Outputs, point: Mapping[str, Array], data: tuple[Any, Any]
) -> PythonFunction:
    rng = np.random.default_rng(1)
    terms = projected(jax, outputs, {name: drawn(array.shape, rng) for name, array in point.items()})
    function = _observed(jax, code, terms, {**point, **outputs.weights}, data)
    weighted = f"{SECOND} {SENTENCE}" if outputs.weights else SECOND
    origin = f"jax.grad of jax.grad of {code}"
    return replace(function, origin=origin, loss_name=PROJECTED, weighted=weighted)


def _observed(
    jax: Any, code: Callee, terms: Terms, point: Mapping[str, Array], data: tuple[Any, Any]
) -> PythonFunction:
    function = observed(code.calling(_pair(jax, terms, data, _as_it_is)), point, *data)
    again = partial(attached, jax, partial(function.gradients, function.parameters))
    compiled = _compiled(jax, function, terms)
    origin = f"jax.grad of {code}"
    return replace(compiled, origin=origin, stands_alone=True, takes_taps=False, attached=again)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _compiled(jax: Any, function: PythonFunction, terms: Terms) -> PythonFunction:
    """Return the function compiled by jax.jit or, if compiling changes the results, the function itself.

    Python code that depends on the values of its arguments cannot be compiled. A remark then says why.
    """
    pair = _pair(jax, terms, (function.x, function.y), jax.jit)
    fast, point = replace(function, code=function.code.calling(pair)), function.parameters
    first, losses = function.gradients(point), function.losses(point)
    try:
        with may_fail(Exception), function.code.running("compiled by jax.jit"):
            pair(dict(point), function.x, function.y)  # if this fails, the message says that it was compiled
            second, others = fast.gradients(point), fast.losses(point)
    except RefusedError as refused:
        return replace(function, remarks=(*function.remarks, _NOT_COMPILED.format(refused)))
    found = [(losses, others), *((first[name], second[name]) for name in first)]
    return fast if all(same(one, other, _APART) for one, other in found) else function


_NOT_COMPILED = "jax.jit cannot compile the function, so the check takes longer: {}"


def _pair(
    jax: Any, terms: Terms, data: tuple[Any, Any], compiled: Wrap, mode: Wrap | None = None
) -> Callable[..., Any]:
    """Return a function that returns the loss terms and the gradients.

    The gradients are computed only if they are read.

    compiled: a function that compiles another function, or returns it unchanged.
    mode: a function that turns a loss into a function that returns its gradients; jax.grad by default.
    """

    def losses(leaves: Leaves) -> JaxArray:
        return terms(leaves, *data)

    def loss(leaves: Leaves) -> JaxArray:
        return losses(leaves).sum()

    run, derive = compiled(losses), compiled((mode or jax.grad)(loss))

    def pair(parameters: dict[str, Array], x: Any, y: Any) -> tuple[JaxArray, Mapping[str, Any]]:
        with in_float64(jax):
            leaves = _on_device(jax, parameters)
            return run(leaves), _Gradients(jax, derive, leaves)

    return pair


class _Gradients(Mapping[str, Any]):
    """The gradients of a loss by name. jax computes them when the first one is read."""

    def __init__(self, jax: Any, derive: Callable[[Leaves], Leaves], leaves: dict[str, JaxArray]) -> None:
        self._jax, self._derive, self._leaves = jax, derive, leaves

    @cached_property
    def _computed(self) -> Leaves:
        with in_float64(self._jax):
            return self._derive(self._leaves)

    def __getitem__(self, name: str) -> Any:
        return self._computed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)


def _with_a_scaled_loss(jax: Any, function: PythonFunction, outputs: Outputs) -> PythonFunction:
    """Return the function with a `Finding` if its gradients do not scale with the loss.

    If they do not scale, one of the derivative rules ignores its upstream or is not linear in it.
    """

    def scaled(leaves: Leaves, x: Any, y: Any) -> JaxArray:
        return FACTOR * outputs(leaves, x, y)

    pair = _pair(jax, scaled, (function.x, function.y), _as_it_is)
    other = replace(function, code=function.code.calling(pair))
    with in_float64(jax):
        one, two = (each.gradients(function.parameters) for each in (function, other))
    differ = not_in_proportion(one, two, FACTOR)
    if not differ:
        return function
    sentence = f"a derivative rule in {function.code} {disproportion(one, two, differ)}"
    other = replace(other, weighted=f"{function.weighted} The loss is multiplied by {FACTOR:g}.".lstrip())
    return replace(function, findings=(Finding(differ, sentence),), others=(other,))


def _in_forward_mode(jax: Any, function: PythonFunction, terms: Terms) -> PythonFunction:
    """Return the function with gradients from jax.jvp, one pass for each entry."""
    pair = _pair(jax, terms, (function.x, function.y), _as_it_is, jax.jacfwd)
    origin = str(function.origin).replace("jax.grad", "jax.jvp")
    other = replace(
        function, code=function.code.calling(pair), origin=origin, findings=(), others=(), attached=tuple
    )
    other.gradients(other.parameters)  # a custom_vjp has no forward mode
    return other


# --- complex parameters -------------------------------------------------------------------------------------


def _in_parts(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays with each complex array split into two real ones, NAME.real and NAME.imag."""
    parts: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            parts |= {f"{name}.{part}": getattr(array, part) for part in _PARTS}
        else:
            parts[name] = array
    return parts


def _whole(arrays: Mapping[str, Array], leaves: Leaves) -> dict[str, JaxArray]:
    """Return the parameters in the author's dtypes: pairs of real arrays become complex arrays again."""
    return {
        name: leaves[f"{name}.real"] + 1j * leaves[f"{name}.imag"]
        if array.dtype.kind == "c"
        else leaves[name]
        for name, array in arrays.items()
    }


def _on_device(jax: Any, parameters: Mapping[str, Array]) -> dict[str, JaxArray]:
    return {name: jax.numpy.asarray(array) for name, array in parameters.items()}
