"""Run the user's code twice, and refuse results that cannot be checked."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_cli.code.evaluation import Evaluation
from gradcheck_cli.code.load import Callee
from gradcheck_cli.code.returned import refuse_infinite, refuse_other_gradients, refuse_other_losses
from gradcheck_cli.code.unwritten import refuse_unwritten

Observe = Callable[[], tuple[Evaluation, tuple[str, ...]]]
"""A function that runs the code once, and returns its losses, its gradients and any remarks."""


def verified(
    observe: Observe, code: Callee, arises: Callable[[], str | None], backward: Callee | None = None
) -> tuple[Evaluation, tuple[str, ...]]:
    """Run the code twice, and return the result of the first run.

    Raises `InputError` if the runs differ, if a loss is not finite, or if a result depends on memory that the
    code never wrote.

    arises: a function that returns a hint about where the first inf or NaN arises, or None.
    backward: the code that computes the gradients, if it is not `code`.
    """
    first, remarks = observe()
    second, _ = observe()
    refuse_unwritten(lambda: observe()[0], code)
    refuse_infinite(first.losses, code, arises)
    refuse_other_losses(first, second, code)
    refuse_other_gradients(first, second, lambda: observe()[0], backward or code)
    return first, remarks
