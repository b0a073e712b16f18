"""A subject for gradients with planted mistakes, whose diagnoses share what the mistakes do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.memory import Lasting, Memory
from gradcheck_cli.subject.network import NetworkSubject


@dataclass(frozen=True)
class Mutated(NetworkSubject):
    """The gradients of a network, with or without a mistake.

    memory: the results that the diagnoses of all mistakes share.
    """

    memory: Memory

    @classmethod
    def of(cls, subject: NetworkSubject) -> Self:
        """Return the subject with a memory for its diagnoses."""
        known = {each.name: getattr(subject, each.name) for each in fields(subject)}
        return cls(**known, memory=Lasting())

    def why(self, comparisons: Sequence[Comparison]) -> Diagnosis:
        return diagnose(comparisons, self.problem, samples=len(self.problem.x), memory=self.memory)
