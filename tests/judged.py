"""Verdicts on many gradients of one network. Each difference is computed once, and nothing is diagnosed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcheck_cli import Report, Spec
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.numerical.looks import Remembered
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.subject.code import CodeSubject
from gradcheck_cli.subject.network import NetworkSubject, network_subject


def _no_diagnosis(*_: Any) -> Diagnosis:
    return Diagnosis(answers=(), tried=0, observations=(), layers=(), basis="arrays")


def leave_out_diagnoses(monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in (NetworkSubject, CodeSubject):
        monkeypatch.setattr(subject, "why", _no_diagnosis)


class Undiagnosed(NetworkSubject):
    """A subject whose wrong gradients get no diagnosis, which takes longer than the check."""

    why = _no_diagnosis

    @classmethod
    def of(cls, subject: NetworkSubject) -> Undiagnosed:
        return cls(**vars(subject))


class Judge:
    """Checks any number of gradients of one network."""

    def __init__(self, spec: Spec, problem: Problem | None = None) -> None:
        self.how = spec.check
        self._subject = Undiagnosed.of(network_subject(spec, problem or build_problem(spec)))
        self._looks = Remembered()  # differences do not depend on the gradient

    def report(self, values: Mapping[str, np.ndarray]) -> Report:
        """Return the report on these gradients, as if the network's own backprop had returned them."""
        analytic = replace(self._subject.analytic, values=dict(values))
        return replace(self._subject, analytic=analytic).check(self.how, looks=self._looks)


class Evaluations:
    """A progress report that counts the evaluations that a check announces."""

    count = 0

    def expect(self, evaluations: int) -> None:
        self.count += evaluations

    def advance(self, evaluations: int) -> None: ...

    def doing(self, what: str) -> None: ...

    def spread_over(self, workers: int) -> None: ...
