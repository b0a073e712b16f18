"""Checks that do not fit in memory are refused in advance, and blocks stay within their budget."""

from __future__ import annotations

import pytest
from build import problem_of, spec_of, units_of

from gradcheck_cli import InputError, check
from gradcheck_cli.problem import memory
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.load import subject_of


def test_a_perturbation_over_the_budget_is_refused_at_its_layer():
    spec = spec_of((3000, "tanh"), (2, "identity"), samples=200, check={"memory": 8})
    with pytest.raises(InputError) as caught:
        build_problem(spec)
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", 0, "units")
    assert (
        "one perturbation at layer 'hidden1' takes about 37 MiB, over the budget of 8 MiB"
        in complaint.message
    )
    assert "--memory" in complaint.help


def test_checks_beyond_the_machines_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "_machine", lambda: 100 * memory.MIB)
    with pytest.raises(InputError) as caught:
        build_problem(spec_of((1000, "tanh"), (2, "identity"), inputs=1000, samples=20))
    assert "needs about 210 MiB of memory, but the machine has 100 MiB" in str(caught.value)


@pytest.mark.parametrize("budget", [1, 4, 64])
def test_blocks_are_sized_from_the_budget(budget):
    layers = ((50, "tanh"), (3, "identity"))
    spec = spec_of(*layers, samples=8, check={"memory": budget})
    objective = subject_of(spec).objective
    assert 8 * 3 * units_of(objective, "hidden1").batch <= budget * memory.MIB / 4
    one, other = check(spec), check(spec_of(*layers, samples=8))
    assert one.verdict is other.verdict


def test_columns_of_the_batch_are_not_split_where_they_fit():
    objective = problem_of((50, "tanh"), (3, "identity"), samples=7).objective
    assert units_of(objective, "hidden1").batch % 7 == 0
