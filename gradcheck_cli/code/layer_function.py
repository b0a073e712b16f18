"""A layer as a function to check: L = Σ c · out, with a random weight c for every output.

If all upstream gradients were 1, a backward that ignores its upstream would pass. So would a backward that
lacks a term whose sum over the outputs is 0, as can happen in a normalisation. This is why c is random.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.call import Call
from gradcheck_cli.code.convention import as_results, convention_of
from gradcheck_cli.code.drawn import MOST_TERMS, WEIGHTED_OUTPUTS
from gradcheck_cli.code.evaluation import Evaluation, elsewhere
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.function import Function
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.layer import (
    Form,
    Layer,
    Passed,
    Types,
    floats,
    given_to,
    in_the_form_of,
    in_the_type_of,
)
from gradcheck_cli.code.layer_sums import sums_of_upstream
from gradcheck_cli.code.layer_upstream import Upstream, drawn_for, strided, weights_of
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.one_type import hinting_at_a_reference
from gradcheck_cli.code.reruns import (
    DOES_NOT_ADD,
    FACTOR,
    MISREADS,
    apart_by_more_than_rounding,
    disproportion,
    not_in_proportion,
)
from gradcheck_cli.code.returned import (
    as_point,
    described,
    first_not_finite,
    plain,
    read_gradients,
    real,
    refuse_changed,
    type_of,
)
from gradcheck_cli.code.signature import called, in_order
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.code.tap import watching
from gradcheck_cli.code.tapped import Search, Taps, Watching, refuse_clashes, refuse_unused
from gradcheck_cli.code.verified import verified
from gradcheck_cli.errors import Location
from gradcheck_cli.types import Array, precision_of

_MOVED = "with slightly changed inputs"


def layer_function(
    forward: Callee,
    backward: Callee,
    arguments: Mapping[str, Any],
    outputs: int | None,
    where: Location,
    form: Form = in_the_form_of,
) -> LayerFunction:
    """Return a layer as a function to check, after calling forward and backward several times to verify them.

    Raises `InputError` if the two functions do not fit together, fail, change their arguments, or return
    different results for the same arguments.

    arguments: all arguments of forward, by name.
    outputs: the number of forward's outputs; None to infer it.
    where: the place in the spec that errors about the arguments point at.
    form: a function that turns an array of floats into the form in which forward takes it.
    """
    arguments = in_order(forward, arguments)
    names = floats(arguments)
    if not names:
        help = "pass x and the weights as arrays of floats; anything else is passed on unchanged"
        given = ", ".join(f"{name} is {described(value)}" for name, value in list(arguments.items())[:3])
        raise forward.complain(f"has no arguments to differentiate: {given}", help)
    point = as_point({name: plain(arguments[name]) for name in names}, where)
    _run_elsewhere(forward, arguments, point, form)
    watch = Watching(forward)
    with hinting_at_a_reference(arguments.values()), forward.running(), watching(watch):
        result = called(forward.value, given_to(arguments, point, form))
    convention = convention_of(forward, backward, result, arguments, outputs)
    refuse_clashes(forward, watch.seen, arguments)
    taps = Taps(forward, watch.seen)
    layer = Layer(forward, backward, arguments, convention, taps, form)
    upstream = Upstream(drawn_for(as_results(result)[: convention.outputs], form))
    function = LayerFunction(layer, {**point, **taps.values}, upstream, 0.0, ())
    with hinting_at_a_reference(arguments.values()):
        observed = _observed(function)
    return _tried(observed)


def _run_elsewhere(
    forward: Callee, arguments: Mapping[str, Any], point: Mapping[str, Array], form: Form
) -> None:
    """Call forward at another point first, and ignore the result.

    If backward reuses values from forward's first call, its gradients at the point to check are then wrong.
    """
    given = given_to(arguments, elsewhere(point), form)
    with suppress(Exception), forward.running(), watching(Watching(forward)):
        called(forward.value, given)


@dataclass(frozen=True)
class LayerFunction:
    """A layer as a `Function` of the arrays that forward takes, with the loss L = Σ c · out.

    parameters: the point at which the gradients are checked.
    upstream: the weights c, one array per output.
    loss: L at the point.
    findings: faults found by running backward with other upstreams.
    others: the same layer with other upstreams.
    """

    layer: Layer
    parameters: Mapping[str, Array]
    upstream: Upstream
    loss: float
    remarks: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    others: tuple[Function, ...] = ()

    stands_alone: ClassVar[bool] = True
    takes_taps: ClassVar[bool] = True
    before: ClassVar[tuple[Function, ...]] = ()
    other_modes: ClassVar[Mapping[str, Function]] = {}
    kernels: ClassVar[tuple[Kernel, ...]] = ()
    loss_name: ClassVar[str] = WEIGHTED_OUTPUTS
    vectorized: ClassVar[bool] = False
    is_wide: ClassVar[bool] = False  # the code chooses its types

    @property
    def origin(self) -> str:
        return f"{self.layer.backward}"

    @property
    def weighted(self) -> str:
        return str(self.upstream)

    @property
    def samples(self) -> int | None:
        """The number of samples: the length of the first axis of both the first input and the first output.

        The number is None if these two lengths differ.
        """
        first = next(iter(self.layer.arrays), self.layer.floats[0])
        shapes = (plain(self.layer.arguments[first]).shape, self.upstream.weights[0].shape)
        lengths = {shape[:1] for shape in shapes}
        return lengths.pop()[0] if len(lengths) == 1 and () not in lengths else None

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(c.size for c in self.upstream.weights)

    @property
    def terms(self) -> int:
        return min(MOST_TERMS, sum(self.outputs))

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        with self.layer.forward.running(_MOVED):
            return self._weighted(self.layer.passed(parameters))

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        return np.stack([self.losses(point) for point in points])

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        with self.layer.backward.running(_MOVED):
            gradients = self.layer.gradients(passed := self.layer.passed(parameters), self.handed(passed))
            return {name: real(g) for name, g in self._read(gradients).items()}

    def run(self, parameters: Mapping[str, Array], weights: tuple[Array, ...]) -> Evaluation:
        """Return the loss terms, and the gradients for an upstream with these weights."""
        upstream = replace(self.upstream, weights=weights)
        with self.layer.backward.running(_MOVED):
            passed = self.layer.passed(parameters)
            gradients = self._read(self.layer.gradients(passed, upstream.given_to(passed.outputs)))
            return Evaluation(self._weighted(passed), {name: real(g) for name, g in gradients.items()})

    @property
    def types(self) -> Types:
        """The types in which the layer takes its arguments, and returns its gradients and outputs."""
        with self.layer.backward.running():
            passed = self.layer.passed(self.parameters)
            gradients = self.layer.gradients(passed, self.handed(passed))
        return Types(
            {name: type_of(passed.given.get(name)) for name in self.parameters},
            {name: type_of(gradients[name]) for name in self.parameters},
            tuple(map(type_of, passed.outputs)),
        )

    def forward(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms, (S,), at parameters that contain no taps.

        Taps that the code passes are still reported to the current `Watch`.
        """
        with self.layer.forward.running(_MOVED):
            return self._weighted(self.layer.untapped(parameters))

    def sites(self, names: Sequence[str]) -> Sites:
        return NO_SITES

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        taps = self.layer.taps
        own = {name: array for name, array in self.parameters.items() if name not in taps.at}
        return Search(taps, self.forward, own).places(wrong, right) if taps.at else ()

    def wide_gradients(self) -> None:
        """Return None, since the code chooses its own dtypes and cannot be made to use wider ones."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """The call of forward at the point; empty if it has taps."""
        layer = self.layer
        if layer.taps.at:
            return ()
        with layer.forward.running():
            passed = layer.passed(self.parameters)
        others = {name: value for name, value in passed.given.items() if name not in self.parameters}
        outputs = tuple(plain(out).astype(np.float64) for out in passed.outputs)
        return (Call(self.parameters, others, outputs, self.upstream.weights),)

    def attached(self) -> tuple[Attached, ...]:
        """Return an empty tuple, since plain code detaches nothing."""
        return ()

    def observe(self) -> tuple[Evaluation, tuple[str, ...]]:
        """Run forward and backward once. Return the loss terms, the gradients and any remarks.

        Raises `InputError` if forward or backward changes an argument of forward.
        """
        layer, point = self.layer, {name: array.copy() for name, array in self.parameters.items()}
        before = arrays_of(given_to(layer.arguments, point, layer.form))
        with layer.forward.running():
            passed = layer.passed(point)
            refuse_changed(before, arrays_of(passed.given), layer.forward)
            losses = self._weighted(passed)
        with layer.backward.running():
            upstreams = self.handed(passed)
            gradients = layer.gradients(passed, upstreams)
            refuse_changed(before, arrays_of(passed.given), layer.backward)
            arrays = {name: real(array) for name, array in self._read(gradients).items()}
        return Evaluation(losses, arrays), tuple(self._remarks(gradients, passed, upstreams))

    def handed(self, passed: Passed) -> list[Any]:
        """Return the upstream that backward receives, one array per output."""
        return self.upstream.given_to(passed.outputs)

    def _read(self, gradients: Mapping[str, Any]) -> dict[str, Array]:
        if not gradients:
            raise self.layer.backward.complain("returns no gradient, only None")
        shapes = {name: self.parameters[name].shape for name in self.parameters if name in gradients}
        return read_gradients(gradients, shapes, self.layer.backward)

    def _weighted(self, passed: Passed) -> Array:
        """Return the terms of Σ c · out, (S,), in float64.

        Raises `InputError` if the shape of an output has changed.
        """
        terms = []
        for c, out in zip(self.upstream.weights, passed.outputs, strict=True):
            if (found := plain(out)).shape != c.shape:
                message = (
                    f"returns an output of shape {list(found.shape)}, but of shape {list(c.shape)} in an "
                    "earlier call"
                )
                raise self.layer.forward.complain(message)
            terms.append((c * found.astype(np.float64)).ravel())
        flat = np.concatenate(terms)
        if len(flat) <= MOST_TERMS:
            return flat
        return np.add.reduceat(flat, np.arange(MOST_TERMS) * len(flat) // MOST_TERMS)

    def _remarks(
        self, gradients: Mapping[str, Any], passed: Passed, upstreams: Sequence[Any]
    ) -> Iterator[str]:
        silent = [name for name in self.layer.arrays if name not in gradients]
        if silent:
            yield f"backward returns None for {listed(silent)}, whose gradient is therefore not checked"
        fresh = self.handed(passed)
        if any((plain(one) != plain(other)).any() for one, other in zip(fresh, upstreams, strict=True)):
            yield "backward changes its upstream gradient in place, but the layer above may still need it"


def arrays_of(values: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of the arguments that are arrays."""
    return {name: plain(value).copy() for name, value in values.items() if hasattr(value, "dtype")}


def _observed(function: LayerFunction) -> LayerFunction:
    """Run the layer several times to verify its results, and return it ready to be checked.

    Arrays and taps for which backward returns no gradient are left out.
    """
    layer = function.layer
    first, remarks = verified(
        function.observe, layer.forward, lambda: first_not_finite(function.observe), layer.backward
    )
    checked = {name: function.parameters[name] for name in first.gradients}
    arguments = {
        name: layer.form(value, function.parameters[name]) if name in function.parameters else value
        for name, value in layer.arguments.items()
    }
    taps = {name: tap for name, tap in layer.taps.at.items() if name in checked}
    layer = replace(layer, arguments=arguments, taps=Taps(layer.forward, taps))
    own = {name: array for name, array in checked.items() if name not in layer.taps.at}
    refuse_unused(layer.taps, replace(function, layer=layer).forward, own, first.gradients)
    return replace(function, layer=layer, parameters=checked, loss=float(first.losses.sum()), remarks=remarks)


# --- under other upstreams ---------------------------------------------------------------------------------


def _tried(function: LayerFunction) -> LayerFunction:
    """Run backward with other upstreams, and return the function with any faults that they reveal.

    Backward must be linear in its upstream.
    """
    if function.layer.form is in_the_type_of:
        types = list(function.types.gradients.values())
    else:
        types = [gradient.dtype for gradient in function.gradients(function.parameters).values()]
    eps = max(precision_of(dtype).eps for dtype in types)
    found = {finding.sentence: (finding, upstream) for finding, upstream in _trials(function, eps)}
    gradients = _run(function, function.upstream) or {}
    sums = sums_of_upstream(gradients, function.upstream.weights, eps)
    function = replace(function, findings=(*(finding for finding, _ in found.values()), *sums))
    return replace(
        function, others=tuple(replace(function, upstream=upstream) for _, upstream in found.values())
    )


def _trials(function: LayerFunction, eps: float) -> Iterator[tuple[Finding, Upstream]]:
    """Yield each fault of backward that another upstream reveals, together with that upstream."""
    who, judged = str(function.layer.backward), function.upstream
    first = _run(function, judged)
    scaled = _run(function, judged.times(FACTOR))
    if first is None or scaled is None or not all(np.isfinite(array).all() for array in first.values()):
        return
    if differ := not_in_proportion(first, scaled, FACTOR):
        yield Finding(differ, f"{who} {disproportion(first, scaled, differ)}"), judged.times(FACTOR)
        return
    second = replace(
        judged, weights=weights_of([c.shape for c in judged.weights], 1), told="c is a second random draw."
    )
    other, both = _run(function, second), _run(function, judged.plus(second))
    if other is not None and both is not None:
        added = {name: np.asarray(first[name] + other[name]) for name in first}
        if differ := apart_by_more_than_rounding(added, both, eps):
            yield Finding(differ, f"{who} {DOES_NOT_ADD.format(listed(differ))}"), judged.plus(second)
    scattered = replace(judged, layout=strided)
    found = _run(function, scattered)
    if found is not None and (differ := apart_by_more_than_rounding(first, found, eps)):
        yield Finding(differ, f"{who} {MISREADS.format(listed(differ))}"), scattered


def _run(function: LayerFunction, upstream: Upstream) -> Mapping[str, Array] | None:
    """Return the gradients for this upstream; None if the code fails."""
    with suppress(RefusedError), may_fail():
        return replace(function, upstream=upstream).gradients(function.parameters)
    return None
