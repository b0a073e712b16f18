"""Right gradients of a network with one tensor spoilt."""

from __future__ import annotations

import numpy as np
from judged import Judge

from gradcheck_cli import Spec, Verdict
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import build_problem


def assert_an_error_in_any_tensor_is_wrong(spec: Spec) -> None:
    """Spoil the largest entry of each tensor by 0.1 %, and demand that this tensor alone is called wrong."""
    problem = build_problem(spec)
    judge = Judge(spec, problem)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    for name, value in right.items():
        if np.abs(value).max() < 1e-12:  # such as a bias below a normalisation, or of the keys
            continue
        wrong = value.copy()
        wrong.flat[np.abs(value).argmax()] *= 1.001
        report = judge.report({**right, name: wrong})
        assert report.verdict is Verdict.WRONG, name
        assert [c.name for c in report.comparisons if c.wrong.any()] == [name]
