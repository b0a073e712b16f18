"""Load what a check needs: gradients, the function to difference, and rounding bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.sources import read_code
from gradcheck_cli.errors import bad_input
from gradcheck_cli.gradients.analytic import Analytic, dtype_of
from gradcheck_cli.gradients.sources import read_gradients
from gradcheck_cli.moving.objective import NetworkObjective
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.losses import same_loss
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.network.sampled_rounding import capped
from gradcheck_cli.numerical.objective import Objective
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.memory import MIB
from gradcheck_cli.problem.named_files import refuse_absent_files
from gradcheck_cli.problem.problem import Problem, build_problem, matching
from gradcheck_cli.problem.unexercised import unexercised, unusual
from gradcheck_cli.spec.arrays import ArrayFile
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.types import Array

if TYPE_CHECKING:
    from gradcheck_cli.code.objective import Finding, ForeignObjective, Function, Inputs
    from gradcheck_cli.code.pool import Workers


@dataclass(frozen=True)
class Subject:
    """The gradients of a spec, and everything needed to judge them.

    objective: the function to difference.
    units: the same function, if its pre-activations can be perturbed.
    code: the same function, if it is the user's code.
    rounding: for each gradient, a bound on the rounding error of a correct one.
    described, loss_name: short descriptions of the function and its loss.
    loss: the loss at the parameters.
    unexercised, unusual: short notes on what the data cannot show, and on what is seldom intended.
    kinks: takes the entries that kinks leave open (masks by tensor); returns a short note on each.
    size: the largest entry of a code's gradients; anything negligible next to it counts as 0.
    workers: starts worker processes that evaluate the code.
    problem: the network, if the spec describes one.
    samples: the number of samples, if there are data.
    in_out: whether the gradients come from a file that holds weights as [in, out].
    weighted: how the judged loss differs from the code's own; empty if it does not.
    findings: what running the code in other ways has shown.
    others: the same code with its loss weighted in other ways, to check if nothing wrong is found.
    """

    analytic: Analytic
    objective: Objective
    units: NetworkObjective | None
    rounding: Mapping[str, Array]
    described: str
    loss_name: str
    loss: float
    unexercised: tuple[str, ...]
    unusual: tuple[str, ...]
    kinks: Callable[[Mapping[str, Array]], tuple[str, ...]]
    size: float = 0.0
    code: ForeignObjective | None = None
    workers: Callable[[int], Workers] | None = None
    problem: Problem | None = None
    samples: int | None = None
    in_out: bool = False
    weighted: str = ""
    findings: tuple[Finding, ...] = ()
    others: Sequence[Callable[[], Subject]] = ()


def subject_of(spec: Spec) -> Subject:
    """Load, draw or import everything that the spec names. Raises `InputError`."""
    refuse_absent_files(spec)
    return _of_code(spec) if spec.names_code else subject_of_network(spec, build_problem(spec))


@np.errstate(all="ignore")
def tensors_of(spec: Spec) -> tuple[str, ...]:
    """Return the names of the tensors that a check of the spec compares, in order.

    Raises `InputError` for anything that prevents a check and can be detected before differencing starts.
    """
    refuse_absent_files(spec)
    if spec.names_code:
        return _checked(*read_function(spec), spec.check)
    return tuple(read_gradients(spec.gradients, build_problem(spec)).values)


# --- a described network -----------------------------------------------------------------------------------


_BLOCKS = 8
"""The largest number of block-sized temporaries that exist at once."""


def subject_of_network(spec: Spec, problem: Problem) -> Subject:
    """Return the gradients that the spec names for the network in `problem`; no user code is run."""
    analytic = read_gradients(spec.gradients, problem)
    objective = problem.objective_for(analytic.dtypes.values())
    objective.block = min(objective.block, spec.check.memory * MIB // _BLOCKS)
    return Subject(
        analytic,
        objective,
        objective,
        _bounds(problem, analytic),
        describe(problem),
        loss_name(spec),
        float(objective.total),
        unexercised(problem),
        (*unusual(problem), *other_loss(problem, analytic)),
        lambda _: tuple(objective.kinks.told(problem.network)),
        problem=problem,
        samples=len(problem.x),
        in_out=isinstance(spec.gradients, ArrayFile) and spec.gradients.layout == "in_out",
    )


def _bounds(problem: Problem, analytic: Analytic) -> Mapping[str, Array]:
    """Return bounds on the rounding error of each correct gradient, in the arithmetic it was computed in."""
    bounds = {}
    for dtype in set(analytic.dtypes.values()):
        at = (problem.network, problem.parameters, problem.x, problem.target)
        bounds[dtype] = gradient_rounding(*at, Arithmetic.of(dtype, held=problem.dtype))
        if dtype == np.float32:
            bounds[dtype] = capped(bounds[dtype], *at, dtype)
    return {name: bounds[dtype][name] for name, dtype in analytic.dtypes.items()}


def loss_name(spec: Spec) -> str:
    """Describe the loss, as in ``mse (batchmean)``."""
    return f"{spec.network.loss.name} ({spec.network.loss.reduction})" if spec.network else "its own loss"


def describe(problem: Problem) -> str:
    """Describe the network, as in ``64-50-10, 2 × sigmoid, 100 samples``."""
    layers = problem.network.layers
    inputs = "×".join(map(str, problem.network.features))
    sizes = "-".join([inputs, *(layer.step.label for layer in layers)])
    runs = [(name, len(list(run))) for name, run in groupby(layer.activation_name for layer in layers)]
    activations = ", ".join(name if times == 1 else f"{times} × {name}" for name, times in runs)
    return f"{sizes}, {activations}, {_samples(problem.x)}"


def _samples(x: Array) -> str:
    return f"{len(x)} sample" + ("s" if len(x) != 1 else "")


# --- the user's code ---------------------------------------------------------------------------------------


# Modules for user code load late, since they would double the start-up time of a network.


def _of_code(spec: Spec) -> Subject:
    from gradcheck_cli.code.pool import Case, Workers

    function, inputs = read_function(spec)
    subject = subject_of_function(function, inputs, spec.check)
    assert subject.code is not None
    case = Case(spec.gradients, inputs, function.parameters, subject.code.losses, subject.code.noise)
    return replace(subject, workers=lambda jobs: Workers(case, function, jobs))


def read_function(spec: Spec) -> tuple[Function, Inputs]:
    """Return the code that the spec names, and its inputs. Raises `InputError`."""
    from gradcheck_cli.code.load import load
    from gradcheck_cli.code.objective import read_inputs
    from gradcheck_cli.code.own_inputs import completed

    _refuse_complex(spec.check)  # before running any of the code
    load_once = cache(load)
    inputs = read_inputs(*completed(spec, load_once))
    return read_code(spec.gradients, inputs, load_once), inputs


def _checked(function: Function, inputs: Inputs, how: CheckSpec) -> tuple[str, ...]:
    return matching(inputs.problem.network.shapes if inputs.problem else function.parameters, how.parameters)


def _refuse_complex(how: CheckSpec) -> None:
    if SCHEMES[how.scheme].offsets[0].imag:
        help = "use the default scheme; the code may not accept complex numbers"
        raise bad_input("the 'complex' scheme does not work with code", "check", "scheme", help=help)


def subject_of_function(function: Function, inputs: Inputs, how: CheckSpec) -> Subject:
    """Return the gradients of a function, ready to be compared with its own loss.

    inputs: the inputs that the function was given. Raises `InputError`.
    """
    from gradcheck_cli.code.objective import ForeignObjective
    from gradcheck_cli.code.precision import measured_noise
    from gradcheck_cli.code.unwritten import refuse_erratic

    _refuse_complex(how)
    gradients = function.gradients(function.parameters)
    checked = _checked(function, inputs, how)
    analytic = analytic_of(function, gradients, checked)
    loss_noise, rounding = measured_noise(function, analytic)
    refuse_erratic(gradients, function.gradients(function.parameters), function.origin)
    objective = ForeignObjective(function, loss_noise)
    losses = objective.losses
    return Subject(
        analytic,
        objective,
        None,
        rounding,
        _describe_code(function, inputs),
        f"its own loss{f', {len(losses)} terms' if len(losses) > 1 else ''}",
        function.loss,
        unexercised(replace(inputs.problem, checked=checked))
        if inputs.problem
        else tuple(_hiding(function.parameters)),
        (*function.remarks, *_other_loss(inputs, function.loss)),
        _kinked,
        _largest(analytic.values.values()),
        objective,
        problem=inputs.problem,
        samples=None if inputs.x is None else len(inputs.x),
        weighted=function.weighted,
        findings=function.findings,
        others=[partial(subject_of_function, other, inputs, how) for other in function.others],
    )


def analytic_of(function: Function, gradients: Mapping[str, Array], checked: Sequence[str]) -> Analytic:
    """Return the gradients that the code computed for these parameters, and the code's own loss."""
    return Analytic(
        {name: gradients[name] for name in checked},
        {name: dtype_of(gradients[name]) for name in checked},
        function.origin,
        loss=function.loss,
    )


_HIDES = {
    1.0: "a missing factor in backward would not show",
    0.0: "a missing term in backward would not show",
}
"""What a mistake can hide behind if a parameter has this value in every entry."""


def _hiding(parameters: Mapping[str, Array]) -> Iterator[str]:
    """Yield a short note for the tensors that are 1 or 0 in every entry, which can hide mistakes."""
    for value, what in _HIDES.items():
        names = [name for name, array in parameters.items() if array.size and (array == value).all()]
        if names:
            yield f"{listed(names)} {'is' if len(names) == 1 else 'are'} {value:g} in every entry: {what}"


def _largest(arrays: Iterable[Array]) -> float:
    """Return the largest absolute value of all finite numbers in these arrays."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays]
    return float(max(sizes, default=0.0))


def _kinked(at: Mapping[str, Array]) -> tuple[str, ...]:
    """Return one short note for each tensor with entries on a kink."""
    return tuple(
        f"{name}{[int(i) for i in np.argwhere(mask)[0]]}{f', and {more:,} more' if more else ''}: the slopes "
        "to the left and to the right differ at every step size"
        for name, mask in at.items()
        for more in [int(np.count_nonzero(mask)) - 1]
    )


def _describe_code(function: Function, inputs: Inputs) -> str:
    if inputs.problem:
        return describe(inputs.problem)
    numbers = sum(array.size for array in function.parameters.values())
    tensors = len(function.parameters)
    described = f"{tensors} tensor{'s' if tensors != 1 else ''} of {numbers:,} parameters"
    return described if inputs.x is None else f"{described}, {_samples(inputs.x)}"


def _other_loss(inputs: Inputs, loss: float) -> tuple[str, ...]:
    """Return a note if the code computes a different loss from the network described in the spec."""
    return (
        () if inputs.problem is None else _unlike(inputs.problem, loss, "the code's loss", "network section")
    )


def other_loss(problem: Problem, analytic: Analytic) -> tuple[str, ...]:
    """Return a note if the loss given with the gradients differs from the network's; else nothing."""
    if analytic.loss is None:
        return ()
    eps = max(float(np.finfo(dtype).eps) for dtype in analytic.dtypes.values())
    return _unlike(problem, analytic.loss, f"the loss in {analytic.origin}", "spec", eps)


def _unlike(problem: Problem, loss: float, whose: str, described: str, eps: float = 0.0) -> tuple[str, ...]:
    ours = float(problem.objective.total)
    if same_loss(ours, loss, eps):
        return ()
    ratio = f", {ours / loss:.6g} times as large" if loss and isfinite(loss) else ""
    return (f"{whose} is {loss:.6g}, but the {described} gives {ours:.6g}{ratio}",)
