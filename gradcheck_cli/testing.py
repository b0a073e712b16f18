"""Check the gradients of a function or a layer in a test. A wrong gradient raises an AssertionError."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ValidationError

from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.code.given_function import read
from gradcheck_cli.code.given_layer import read_layer
from gradcheck_cli.errors import ExitCode, GradcheckError, InputError
from gradcheck_cli.formats import render
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.formats.view import view_of
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.parallel.executors import engine_of
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.subject.code import shared_out, subject_of_function
from gradcheck_cli.verdict import Verdict

if TYPE_CHECKING:
    from concurrent.futures import Executor

_MARGIN = 8
"""The number of columns to leave free, since pytest prints a margin before each line of an error."""


class FailedCheckError(GradcheckError, AssertionError):
    """Raised when a check does not pass.

    The error's text is what the command would print; the attribute `report` has the details.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        view = view_of("never")
        if view.width:
            view = replace(view, width=max(1, view.width - _MARGIN))
        run = Run((Outcome(self.report.source, self.report),))
        return f"{escaped(sentence(self.report))}\n\n{render('table', run, view)}".rstrip()


class WrongGradientError(FailedCheckError):
    """Raised when a gradient is wrong."""

    exit_code = ExitCode.WRONG


class UndecidedGradientError(FailedCheckError):
    """Raised when no gradient is known to be wrong, but too many entries could not be decided."""

    exit_code = ExitCode.UNDECIDED


def failure_of(report: Report) -> FailedCheckError:
    """Return the error to raise for a report whose check did not pass."""
    kind = WrongGradientError if report.verdict is Verdict.WRONG else UndecidedGradientError
    return kind(report)


def check_gradients(
    loss_and_gradients: Callable[..., Any],
    parameters: Any,
    x: Any = None,
    y: Any = None,
    *,
    reference: Callable[..., Any] | None = None,
    only: str | Sequence[str] = "all",
    scheme: str = "adaptive",
    rtol: float | None = None,
    atol: float = 0.0,
    fast: bool | None = None,
    strict: bool = False,
    allow_undecided: bool = False,
    executor: Executor | str | None = None,
) -> Report:
    """Compare the gradients that a function returns with finite differences of its loss.

    loss_and_gradients: f(parameters, x, y) or f(parameters). It returns the loss, as a number or as an array
        of terms that add up to it, and the gradients, nested like the parameters: for example, a dict of
        arrays if the parameters are a dict of arrays.
    parameters: the point at which to check: an array, or arrays in dicts, lists, tuples, dataclasses and jax
        pytrees, nested to any depth. A gradient of None counts as 0.
    x, y: the data, passed to the function unchanged.
    reference: a function of the same arguments that returns the same loss. It gets them in float64, and
        differences are taken of it. `loss_and_gradients` then gets the parameters in their own types, such as
        float32 or bfloat16.
    only: the names of the parameters to check; wildcards are allowed.
    scheme, rtol, atol, strict: as in a spec. `atol` can hide a mistake, so the report counts the entries that
        agree only because of it.
    fast: whether to check along random directions instead of entry by entry. By default, directions are used
        only if checking every entry would take more than ten seconds.
    allow_undecided: whether to return the report of an undecided check instead of raising.
    executor: shares out the evaluations if they take long: a `concurrent.futures.Executor`, which is not shut
        down, or the name of one, as for the option `--jobs`, such as ``"dask:tcp://host:8786"``. The function
        is sent as a pickle; with the package cloudpickle, it may be a lambda or local to a test.

    Returns the `Report`, which notebooks display as a table and rich can print. Raises `WrongGradientError`
    or `UndecidedGradientError`, which are AssertionErrors with the attribute `report`, or `InputError` if the
    function cannot be checked. Exceptions raised by the function propagate.
    """
    __tracebackhide__ = True
    how = _how(only, scheme, rtol, atol, fast, strict)
    function = partial(read, loss_and_gradients, parameters, x, y, reference)
    return _passed(_check(function, how, executor), allow_undecided)


def check_layer(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Any] | Sequence[Any] | ArrayLike,
    *,
    outputs: int | None = None,
    reference: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
    only: str | Sequence[str] = "all",
    scheme: str = "adaptive",
    rtol: float | None = None,
    atol: float = 0.0,
    fast: bool | None = None,
    strict: bool = False,
    allow_undecided: bool = False,
    executor: Executor | str | None = None,
) -> Report:
    """Compare the gradients of a layer's backward function with finite differences of its forward function.

    The loss is L = Σ c · out, with c drawn at random. Backward receives c as the upstream gradient and must
    return ∂L/∂input for every input. Backward is also run with other upstream gradients, since it must be
    linear in them, and with c in another memory layout.

    forward: f(x, w, b, …). It returns `out`, or `(out, cache)`, or several outputs followed by the cache.
    backward: b(dout, cache), or b(dout, x, w, b) with forward's arguments, or b(dout). Backward takes one
        upstream gradient per output. It returns one gradient for each input in forward's order, or a dict by
        name (`x` or `dx`). An input whose gradient is None is not checked.
    inputs: the arguments of forward: a dict by name, a tuple in order, or a single array. The gradients of
        arrays of floats are checked, each in the array's shape; everything else, such as labels, numbers or a
        dict of options, is passed to forward unchanged.
    outputs: the number of forward's outputs. It is needed if forward returns a tuple that may end with a
        cache.
    reference: a function that computes the same outputs. It gets the inputs in float64, and differences are
        taken of it. forward and backward then get the inputs in their own types, such as bfloat16. With its
        own backward function, as `(forward, backward)`, it also shows how far a plain implementation in these
        types is off.
    only, scheme, rtol, atol, fast, strict, allow_undecided, executor: as in `check_gradients`.

    Returns the `Report`. Raises the same errors as `check_gradients`.
    """
    __tracebackhide__ = True
    how = _how(only, scheme, rtol, atol, fast, strict)
    layer = partial(read_layer, forward, backward, inputs, outputs, reference)
    return _passed(_check(layer, how, executor), allow_undecided)


def check_torch(
    module: Any,
    tensors: Mapping[str, Any] | Sequence[Any] | None = None,
    x: Any = None,
    y: Any = None,
    *,
    loss: Callable[..., Any] | None = None,
    reference: Any = None,
    order: int = 1,
    forward_mode: bool = False,
    batched: bool = False,
    only: str | Sequence[str] = "all",
    scheme: str = "adaptive",
    rtol: float | None = None,
    atol: float = 0.0,
    fast: bool | None = None,
    strict: bool = False,
    allow_undecided: bool = False,
    executor: Executor | str | None = None,
) -> Report:
    """Compare the gradients that torch's backward computes with finite differences in float64.

    module: a torch.nn.Module, a function of tensors, or a subclass of torch.autograd.Function.
    tensors: the tensors that the function takes after x: a dict by name, or a sequence in order. The tensors
        that require a gradient are checked. If none requires one, all floating-point and complex tensors are
        checked. The parameters of a module are checked, too.
    x, y: the input of the module and the target of the loss, if there are any.
    loss: a function of the output and, if there is one, y. By default, the loss is Σ c · out over all
        outputs, with c drawn at random.
    reference: the same forward pass, in operations that work in float64: a module whose parameters have the
        same names, or a function of the same tensors. Differences are taken of it, and the module runs in its
        own types, such as bfloat16.
    order: 2 also checks the gradients of the gradients, which double backward computes.
    forward_mode: whether to check forward-mode derivatives (jvp), too, and say which mode is wrong.
    batched: whether to check backward for a batch of upstreams (is_grads_batched, vmap), too.
    only, scheme, rtol, atol, fast, strict, allow_undecided, executor: as in `check_gradients`.

    The module and the tensors are restored when the check ends. Returns the `Report`. Raises
    `WrongGradientError` or `UndecidedGradientError`, or `InputError` if the module cannot be checked, for
    example because its backward pass cannot be differentiated.
    """
    __tracebackhide__ = True
    from gradcheck_cli.code.given_module import kept, read_torch

    modes = {"order": order, "forward_mode": forward_mode, "batched": batched}
    how = _how(only, scheme, rtol, atol, fast, strict, **modes)
    with kept(module, loss, tensors, reference):
        report = _check(partial(read_torch, module, tensors, x, y, loss, how, reference), how, executor)
    return _passed(report, allow_undecided)


def check_jax(
    function: Callable[..., Any],
    parameters: Any,
    x: Any = None,
    y: Any = None,
    *,
    order: int = 1,
    forward_mode: bool = False,
    only: str | Sequence[str] = "all",
    scheme: str = "adaptive",
    rtol: float | None = None,
    atol: float = 0.0,
    fast: bool | None = None,
    strict: bool = False,
    allow_undecided: bool = False,
    executor: Executor | str | None = None,
) -> Report:
    """Compare the gradients that jax.grad computes with finite differences, both in float64.

    function: f(parameters, x, y) or f(parameters). It returns the loss as a real number, or outputs of any
        shape and nesting, for which the loss is Σ c · out, with c drawn at random.
    parameters: the point at which to check, as in `check_gradients`. Complex arrays are allowed.
    x, y: the data, passed to the function unchanged.
    order: 2 also checks the gradients of the gradients.
    forward_mode: whether to check forward-mode derivatives (jvp), too.
    only, scheme, rtol, atol, fast, strict, allow_undecided, executor: as in `check_gradients`.

    Returns the `Report`. Raises the same errors as `check_torch`.
    """
    __tracebackhide__ = True
    from gradcheck_cli.code.given_module import read_jax

    how = _how(only, scheme, rtol, atol, fast, strict, order=order, forward_mode=forward_mode)
    of_jax = partial(read_jax, function, parameters, x, y, how)
    return _passed(_check(of_jax, how, executor), allow_undecided)


def _passed(report: Report, allow_undecided: bool) -> Report:
    __tracebackhide__ = True
    if report.passed or (allow_undecided and report.verdict is Verdict.UNRESOLVED):
        return report
    raise failure_of(report)


def _how(
    only: str | Sequence[str],
    scheme: str,
    rtol: float | None,
    atol: float,
    fast: bool | None,
    strict: bool,
    **more: Any,
) -> CheckSpec:
    """Return the settings as the check section of a spec. `more` holds further settings by name."""
    __tracebackhide__ = True
    settings = {"parameters": only, "scheme": scheme, "rtol": rtol, "atol": atol, "strict": strict}
    try:
        return CheckSpec.model_validate({**settings, **_way(fast), **more})
    except ValidationError as error:
        from gradcheck_cli.spec.messages import explain  # only failing runs need it

        complaints = (complaint for complaint, _ in explain(error.errors(include_url=False)))
        raise InputError(*(replace(complaint, where=()) for complaint in complaints)) from None


def _way(fast: bool | None) -> Mapping[str, Any]:
    return {} if fast is None else {"fast": True} if fast else {"differences": "literal"}


@np.errstate(all="ignore")
def _check(read: partial[tuple[Function, Inputs]], how: CheckSpec, executor: Executor | str | None) -> Report:
    __tracebackhide__ = True
    try:
        engine = None if executor is None else engine_of(executor)
        function, inputs = read()
        subject = subject_of_function(function, inputs, how)
        if engine is not None:
            from gradcheck_cli.code.given_pickles import Pickled  # only several processes need it

            subject = shared_out(subject, Pickled.of(read), engine)
        return subject.check(how)
    except InputError as error:
        complaints = (replace(complaint, where=()) for complaint in error.complaints)
        raise InputError(*complaints) from error.__cause__
