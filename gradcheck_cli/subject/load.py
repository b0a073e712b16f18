"""Load everything that a spec names: a network and its gradients, or the user's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.errors import bad_input
from gradcheck_cli.gradients.sources import read_gradients
from gradcheck_cli.problem.named_files import refuse_absent_files
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.subject.subject import Subject

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Modules for user code are imported late, since they would double the time to start a check of a network.


def subject_of(spec: Spec, executor: Executor | str | None = None) -> Subject:
    """Return the subject of a spec, after loading, drawing or importing everything that the spec names.

    Raises an `InputError` if the spec does not fit its data or its code.

    executor: shares out the evaluations of the code; None for as many processes as the spec says. A network
        is always checked on this machine.
    """
    refuse_absent_files(spec)
    if (source := spec.code_source) is not None:
        from gradcheck_cli.subject.code import code_subject

        return code_subject(spec, source, executor)
    _refuse_autodiff(spec)
    return network_subject(spec, build_problem(spec))


@np.errstate(all="ignore")
def tensors_of(spec: Spec) -> tuple[str, ...]:
    """Return the names of the tensors that a check of the spec compares, in order.

    Raises an `InputError` for anything that prevents a check and can be detected before differencing starts.
    """
    refuse_absent_files(spec)
    if (source := spec.code_source) is not None:
        from gradcheck_cli.subject.code import checked_tensors, read_function

        return checked_tensors(*read_function(spec, source), spec.check)
    _refuse_autodiff(spec)
    return tuple(read_gradients(spec.gradients, build_problem(spec)).values)


def _refuse_autodiff(spec: Spec) -> None:
    """Raise an `InputError` if the check asks for derivatives that a network does not have."""
    how = spec.check
    asked = {"order: 2": how.order > 1, "forward_mode": how.forward_mode, "batched": how.batched}
    for key, is_asked in asked.items():
        if is_asked:
            message = f"'{key}' does not work with the gradients of a network"
            help = "it needs code in torch or jax, which gradcheck can differentiate"
            raise bad_input(message, "check", key.partition(":")[0], help=help)
