"""Check a spec from start to finish: read the spec, build its subject, and return a report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.report import Report
from gradcheck_cli.spec.file import load_spec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of

if TYPE_CHECKING:
    from concurrent.futures import Executor


@np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
def check(
    spec: Spec | str | os.PathLike[str],
    progress: Progress | None = None,
    clock: Clock = now,
    *,
    executor: Executor | str | None = None,
) -> Report:
    """Compare the analytic gradients that a spec names with finite differences, entry by entry.

    spec: the spec, or the path of its YAML file.
    progress: receives the number of evaluations as they finish.
    clock: measures how fast the user's code is. Slow code is checked along random directions.
    executor: shares out the evaluations of slow code: a `concurrent.futures.Executor`, which is not shut
        down, or the name of one, as for the option `--jobs`, such as ``"dask:tcp://host:8786"``. By default,
        the spec's `jobs` says how many processes to use. A network is always checked on this machine.

    Raises `InputError` if the spec is invalid or does not fit its data or its code, or if the executor cannot
    do the work, and `UntrustedReferenceError` if unit and literal differences contradict each other.
    """
    given = spec if isinstance(spec, Spec) else load_spec(spec)
    return subject_of(given, executor).check(given.check, progress, clock)
