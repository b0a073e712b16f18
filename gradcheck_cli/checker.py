"""Check a spec from start to finish: read the spec, build its subject, and return a report."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.numerical.estimate import Progress
from gradcheck_cli.parallel.clock import Clock, now
from gradcheck_cli.report import Report
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of


@np.errstate(all="ignore")  # numbers that are not finite get a verdict or an error, not a warning
def check(spec: Spec, progress: Progress | None = None, clock: Clock = now) -> Report:
    """Compare the analytic gradients that `spec` names with finite differences, entry by entry.

    progress: receives the number of evaluations as they finish.
    clock: measures the speed of the user's code; slow code is checked along random directions.

    Raises `InputError` if the spec does not fit its data or its code, and `UntrustedReferenceError` if unit
    and literal differences contradict each other.
    """
    return subject_of(spec).check(spec.check, progress, clock)
