"""What is checked: gradients, the function they are held against, and how exact a right gradient can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from gradcheck_cli.model.blind import unexercised, unusual
from gradcheck_cli.model.problem import Problem, build_problem, matching
from gradcheck_cli.model.rounding import Arithmetic, gradient_rounding
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.noise import POINTS, noise_level, too_close
from gradcheck_cli.numerical.objective import Objective, UnitObjective
from gradcheck_cli.sources import CODE_SOURCES, read_gradients
from gradcheck_cli.sources.analytic import Analytic, dtype_of
from gradcheck_cli.sources.foreign import ForeignObjective, Function, Inputs, length, read_inputs
from gradcheck_cli.sources.workers import Case, Workers
from gradcheck_cli.spec import Spec


@dataclass(frozen=True)
class Subject:
    """The gradients of a spec and everything that is needed to judge them.

    objective: what is differenced.  units: the same, where its pre-activations can be moved.
    code: the same, where it is code of the user's.
    rounding: for each gradient, what rounding alone may do to a right one.
    described, loss_name, loss: what it is, in a few words, and the loss at the parameters.
    unexercised, unusual: a short line each for what the data could not show, and for what is seldom meant.
    kinks: the same for what sits on a kink, if it comes to that.
    workers: so many processes that evaluate the code.
    """

    analytic: Analytic
    objective: Objective
    units: UnitObjective | None
    rounding: Mapping[str, Array]
    described: str
    loss_name: str
    loss: float
    unexercised: tuple[str, ...]
    unusual: tuple[str, ...]
    kinks: Callable[[], tuple[str, ...]]
    code: ForeignObjective | None = None
    workers: Callable[[int], Workers] | None = None


def subject_of(spec: Spec) -> Subject:
    """Load, draw or import everything the spec names. Raises `InputError`."""
    return _of_code(spec) if spec.names_code else _of_network(spec)


# --- a network of ours -------------------------------------------------------------------------------------


def _of_network(spec: Spec) -> Subject:
    problem = build_problem(spec)
    analytic = read_gradients(spec.gradients, problem)
    objective = problem.objective_for(analytic.dtypes.values())
    return Subject(
        analytic,
        objective,
        objective,
        _bounds(problem, analytic),
        describe(problem),
        loss_name(spec),
        float(objective.total),
        unexercised(problem),
        unusual(problem),
        lambda: tuple(objective.kinks.told(problem.network)),
    )


def _bounds(problem: Problem, analytic: Analytic) -> Mapping[str, Array]:
    """How far rounding may carry each right gradient, in the arithmetic that it was computed in."""
    bounds = {}
    for dtype in set(analytic.dtypes.values()):
        arithmetic = Arithmetic.of(dtype, held=problem.dtype)
        bounds[dtype] = gradient_rounding(
            problem.network, problem.parameters, problem.x, problem.target, arithmetic
        )
    return {name: bounds[dtype][name] for name, dtype in analytic.dtypes.items()}


def loss_name(spec: Spec) -> str:
    """``mse (batchmean)``"""
    return f"{spec.network.loss.name} ({spec.network.loss.reduction})" if spec.network else "its own loss"


def describe(problem: Problem) -> str:
    """``64-50-10, 2 × sigmoid, 100 samples``"""
    layers = problem.network.layers
    sizes = "-".join(str(n) for n in (layers[0].inputs, *(layer.units for layer in layers)))
    runs = [(name, len(list(run))) for name, run in groupby(layer.activation_name for layer in layers)]
    activations = ", ".join(name if times == 1 else f"{times} × {name}" for name, times in runs)
    return f"{sizes}, {activations}, {_samples(problem.x)}"


def _samples(x: Array) -> str:
    return f"{len(x)} sample" + ("s" if len(x) != 1 else "")


# --- code of the user's ------------------------------------------------------------------------------------


def _of_code(spec: Spec) -> Subject:
    inputs = read_inputs(spec)
    function = CODE_SOURCES[type(spec.gradients)](spec.gradients, inputs)
    gradients = function.gradients(function.parameters)
    named = inputs.problem.network.shapes if inputs.problem else function.parameters
    checked = matching(named, spec.check.parameters)
    analytic = Analytic(
        {name: gradients[name] for name in checked},
        {name: dtype_of(gradients[name]) for name in checked},
        function.origin,
    )
    losses = function.losses(function.parameters)
    loss_noise, rounding = _measured_noise(function, analytic)
    objective = ForeignObjective(function, loss_noise)
    case = Case(spec.gradients, inputs, function.parameters, losses, loss_noise)
    return Subject(
        analytic,
        objective,
        None,
        rounding,
        _describe_code(function, inputs),
        f"its own loss{f', {len(losses)} terms' if len(losses) > 1 else ''}",
        float(losses.sum()),
        unexercised(replace(inputs.problem, checked=checked)) if inputs.problem else (),
        (*function.remarks, *_other_loss(inputs, float(losses.sum()))),
        lambda: ("the losses on the two sides of some entries rise differently however small the step",),
        objective,
        lambda jobs: Workers(case, function, jobs),
    )


def _describe_code(function: Function, inputs: Inputs) -> str:
    if inputs.problem:
        return describe(inputs.problem)
    numbers = sum(array.size for array in function.parameters.values())
    tensors = len(function.parameters)
    described = f"{tensors} tensor{'s' if tensors != 1 else ''} of {numbers:,} parameters"
    return described if inputs.x is None else f"{described}, {_samples(inputs.x)}"


def _other_loss(inputs: Inputs, loss: float) -> tuple[str, ...]:
    """Where the spec describes a network and the code computes another loss."""
    if inputs.problem is None:
        return ()
    ours = float(inputs.problem.objective.total)
    if abs(ours - loss) <= 1e-6 * max(abs(ours), abs(loss)):
        return ()
    ratio = f", {ours / loss:.6g} times as much" if loss else ""
    return (f"the code's loss is {loss:.6g}; that of the network section is {ours:.6g}{ratio}",)


Observe = Callable[[Mapping[str, Array]], Array]

_FINEST = 2.0**-36
"""The distance of neighbouring points for a function in float64: far above ε, and next to nothing curves."""
_COARSEST = 2.0**-20
"""The distance for one that rounds its parameters to float32."""
_SIGMAS = 4.0
"""A bound on what noise of standard deviation 1 does: the largest of many thousand samples."""


def _measured_noise(function: Function, analytic: Analytic) -> tuple[Array, Mapping[str, Array]]:
    """How exact each loss is, (S,), and a bound on the rounding of each gradient, in the gradient's shape.

    Both are taken from values along a short line through the parameters. A single entry's noise is known
    only roughly from so few points, so none counts as less than the tensor's on the whole.
    """
    here = function.parameters
    own = max(float(np.finfo(dtype).eps) for dtype in analytic.dtypes.values())
    beside = _beside(here)  # at the point itself, values may be round numbers, which any type holds
    coarsest = max(
        own, _resolution(function.losses(beside)), _resolution(_flat(function.gradients(beside), analytic))
    )
    losses = _along(function.losses, here, coarsest)
    gradients = _along(lambda at: _flat(function.gradients(at), analytic), here, coarsest)
    levels = noise_level(gradients)
    bounds, start = {}, 0
    for name, value in analytic.values.items():
        level = levels[start : start + value.size]
        finite = level[np.isfinite(level)]
        whole = np.sqrt(np.mean(np.square(finite))) if finite.size else 0.0
        bounds[name] = _SIGMAS * np.fmax(level, whole).reshape(value.shape)
        start += value.size
    return np.maximum(_SIGMAS * noise_level(losses), _resolution(losses) * np.abs(losses).max(axis=0)), bounds


def _beside(parameters: Mapping[str, Array]) -> Mapping[str, Array]:
    rng = np.random.default_rng(0)
    return {
        name: array + 2.0**-10 * length(array) * rng.uniform(-1.0, 1.0, array.shape)
        for name, array in parameters.items()
    }


def _resolution(values: Array) -> float:
    """ε of the narrowest type that holds all of these: what the code computes in, whatever it returns.

    In float32 a small loss added to a large one may not change at all, which shows no noise either.
    """
    for dtype in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            if np.array_equal(values.astype(dtype), values):
                return float(np.finfo(dtype).eps)
    return float(np.finfo(np.float64).eps)


def _flat(gradients: Mapping[str, Array], analytic: Analytic) -> Array:
    return np.concatenate([np.asarray(gradients[name], np.float64).ravel() for name in analytic.values])


def _along(observe: Observe, parameters: Mapping[str, Array], eps: float) -> Array:
    """What is observed at POINTS points on a line, so far apart that it changes from one to the next.

    eps: that of the arithmetic, as far as it can be told. Rounded parameters need more distance.
    """
    rng = np.random.default_rng(0)
    lines = {name: length(array) * rng.choice([-1.0, 1.0], array.shape) for name, array in parameters.items()}
    steps = np.arange(POINTS) - POINTS // 2
    distance = max(_FINEST, 8.0 * eps)
    while True:
        points = [
            {name: array + k * distance * lines[name] for name, array in parameters.items()} for k in steps
        ]
        values = np.stack([observe(point) for point in points])
        distance *= 256.0
        if distance > max(_COARSEST, 8.0 * eps) or not too_close(values):
            return values
