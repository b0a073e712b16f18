"""Check a spec from start to finish: read the spec, build its subject, and return a report."""

from __future__ import annotations

import os

import numpy as np

from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.report import Report
from gradcheck_cli.spec.file import load_spec
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of


@np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
def check(
    spec: Spec | str | os.PathLike[str], progress: Progress | None = None, clock: Clock = now
) -> Report:
    """Compare the analytic gradients that a spec names with finite differences, entry by entry.

    spec: the spec, or the path of its YAML file.
    progress: receives the number of evaluations as they finish.
    clock: measures how fast the user's code is. Slow code is checked along random directions.

    Raises `InputError` if the spec is invalid or does not fit its data or its code, and
    `UntrustedReferenceError` if unit and literal differences contradict each other.
    """
    given = spec if isinstance(spec, Spec) else load_spec(spec)
    return subject_of(given).check(given.check, progress, clock)
