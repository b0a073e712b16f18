"""Diagnoses of one network share results, but only those that do not depend on the author's gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from diagnose.alone import alone, exact, why_alone
from diagnose.graphs import why_drawn

from gradcheck_cli.diagnose.memory import FORGETFUL, Lasting, Memory, Watched
from gradcheck_cli.diagnose.rows import matrices, matrix
from gradcheck_cli.mutate.plant import plants
from gradcheck_cli.types import Array

STEPS = 3
DROPOUT = {"dropout": 0.5, "seed": 1}
NETWORKS = {
    "gru": alone([{"gru": 3}, {"select": -1}, {"units": 2}], STEPS, 2, seed=12),
    "drawn again": alone([{"units": 4, "activation": "relu"}, DROPOUT, {"rnn": 3}], STEPS, 2, seed=13),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_diagnoses_that_share_a_memory_say_the_same_as_diagnoses_that_do_not(kind):
    of, memory = NETWORKS[kind], Lasting()
    planted, right = list(plants(of)), matrices(exact(of))
    for plant in (planted[i] for i in np.random.default_rng(3).choice(len(planted), 2, replace=False)):
        found = {name: matrix(plant.gradients[name]) for name in of.parameters}
        together, apart = (why_drawn(of, found, right, most=1, memory=each) for each in (memory, FORGETFUL))
        assert together == apart


def test_a_mask_that_one_gradient_shows_does_not_explain_the_next():
    of, memory = alone([{"units": 4}, DROPOUT], 6, seed=14), Lasting()
    (mask,) = (node.step.mask for node in of.network.graph.nodes if hasattr(node.step, "mask"))
    for by in (1, 2, 3):
        delta = of.target * np.roll(mask, by)
        found = {"hidden1.weight": delta.T @ of.x, "hidden1.bias": delta.sum(axis=0)}
        (answer, *_) = why_alone(of, found, most=1, memory=memory).answers
        assert [cause.kind for cause in answer.causes] == ["dropout: mask drawn again"]


def read_any(found: Watched) -> Array:
    return found["w"]


def read_names(found: Watched) -> list[str]:
    return list(found)


def read_after_another_result(found: Watched) -> int:
    found.watched(lambda: None)
    return len(found)


@pytest.mark.parametrize("read", [read_any, read_names, read_after_another_result])
def test_a_result_that_depends_on_the_gradients_is_not_kept(read: Callable[[Watched], object]):
    memory, calls = Lasting(), []
    for value in (1.0, 2.0):
        found = Watched({"w": np.array([value])})
        memory.once("key", lambda found=found: calls.append(read(found)), found)
    assert len(calls) == 2


def test_a_result_that_contains_another_that_depends_on_the_gradients_is_not_kept():
    memory, calls, found = Lasting(), [], Watched({"w": np.ones(1)})
    for _ in range(2):
        memory.once("outer", lambda: memory.once("inner", lambda: calls.append(found["w"]), found), found)
    assert len(calls) == 2


@pytest.mark.parametrize(("memory", "computed"), [(Lasting(), 1), (FORGETFUL, 3)])
def test_a_result_that_does_not_depend_on_the_gradients_is_kept_by_a_lasting_memory(
    memory: Memory, computed: int
):
    calls: list[int] = []
    for i in range(3):
        memory.once("key", lambda i=i: calls.append(i), Watched({}))
    assert len(calls) == computed


def test_a_result_larger_than_the_room_is_not_kept(monkeypatch):
    monkeypatch.setattr("gradcheck_cli.diagnose.memory._ROOM", 1000)
    memory, calls = Lasting(), []

    def compute() -> dict[str, Array]:
        calls.append(1)
        return {"w": np.zeros(1000)}

    for _ in range(2):
        memory.once("key", compute, Watched({}))
    assert len(calls) == 2
