"""Gradients that are all 0, for example because the backward pass never ran."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck_cli.diagnose.diagnosis import Answer
from gradcheck_cli.diagnose.observe import layer_of
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.table import ALL_ZERO
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.words import cause_of
from gradcheck_cli.problem.problem import Problem


def all_zero(targets: Mapping[str, Target], problem: Problem | None, without: frozenset[str]) -> list[Answer]:
    """Return a list: one answer if every gradient is 0 and at least two should not be; otherwise, none."""
    wrong = [target for target in targets.values() if not target.is_right]
    if len(wrong) < 2 or ALL_ZERO.kind in without or any(target.found.any() for target in targets.values()):
        return []
    layers = [layer_of(target.name) if problem else "" for target in wrong]
    made = [Made(ALL_ZERO, layer, target.name) for layer, target in zip(layers, wrong, strict=True)]
    return [Answer((cause_of(made, problem),), 0.0)]
