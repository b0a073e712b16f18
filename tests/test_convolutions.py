"""Random networks with convolutions: right gradients are never called wrong, and wrong ones never pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pytest
from build import right_gradients
from judged import Judge
from random_networks import Raw, random_convolutions
from shares import first

from gradcheck_cli import Report, Spec, Verdict, check
from gradcheck_cli.problem.problem import Problem, build_problem

Array = np.ndarray

SEEDS = range(20)
DTYPES = ("float64", "float32")


def report_of(raw: Raw) -> Report:
    return check(Spec.model_validate(raw))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_right_gradients_are_never_called_wrong(seed, dtype):
    report = report_of(random_convolutions(seed, dtype))
    assert report.wrong == 0, report.worst(3)
    assert report.verdict is not Verdict.WRONG


def test_most_entries_are_decided():
    reports = [report_of(random_convolutions(seed)) for seed in SEEDS]
    assert sum(report.verdict is Verdict.AGREES for report in reports) >= 0.8 * len(reports)


def test_every_option_is_drawn():
    drawn = [layer for seed in SEEDS for layer in random_convolutions(seed)["network"]["layers"]]
    layers = [layer for layer in drawn if "conv2d" in layer]
    for option in ("stride", "padding", "dilation", "groups", "activation", "batch_norm"):
        assert len({str(layer[option]) for layer in layers}) > 1


def _one_entry(kernel: Array) -> Array:
    """Change the largest entry by 1 %."""
    wrong = kernel.copy()
    wrong.flat[np.abs(wrong).argmax()] *= 1.01
    return wrong


PLANTED: Mapping[str, Callable[[Array], Array]] = {
    "1 % of one entry": _one_entry,
    "a sign": lambda kernel: -kernel,
    "a factor": lambda kernel: 1.02 * kernel,
    "one channel": lambda kernel: np.concatenate([0.5 * kernel[:1], kernel[1:]]),
}


@lru_cache(2)  # for both types of one seed, whose tests follow each other
def judged(seed: int, dtype: str) -> tuple[Problem, Judge]:
    spec = Spec.model_validate(random_convolutions(seed, dtype))
    problem = build_problem(spec)
    return problem, Judge(spec, problem)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", PLANTED)
@pytest.mark.parametrize("seed", first(6, SEEDS[:12]))
def test_a_wrong_kernel_gradient_never_passes(seed, mistake, dtype):
    problem, judge = judged(seed, dtype)
    right, name = right_gradients(problem), "hidden1.weight"
    assert np.abs(right[name]).max() > 0
    wrong = {
        key: value.astype(dtype) for key, value in {**right, name: PLANTED[mistake](right[name])}.items()
    }
    report = judge.report(wrong)
    assert report.verdict is Verdict.WRONG
    assert [each.name for each in report.comparisons if each.wrong.any()] == [name]
