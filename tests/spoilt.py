"""Right gradients of a network with one tensor spoilt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli import Spec, Verdict
from gradcheck_cli.network.network import gradients
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject


def assert_an_error_in_any_tensor_is_wrong(spec: Spec) -> None:
    """Spoil the largest entry of each tensor by 0.1 %, and demand that this tensor alone is called wrong."""
    problem = build_problem(spec)
    subject = network_subject(spec, problem)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    for name, value in right.items():
        if np.abs(value).max() < 1e-12:  # such as a bias below a batch normalisation, or of the keys
            continue
        wrong = value.copy()
        wrong.flat[np.abs(value).argmax()] *= 1.001
        analytic = replace(subject.analytic, values={**right, name: wrong})
        report = replace(subject, analytic=analytic).check(spec.check)
        assert report.verdict is Verdict.WRONG
        (off,) = (c for c in report.comparisons if c.wrong.any())
        assert off.name == name
