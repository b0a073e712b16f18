"""Every row of the mistake tables is diagnosed when it is planted in a network, and is worded well."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from diagnose.networks import CONVOLUTIONS, NETWORKS, compared, kinds, why

from gradcheck_cli.diagnose.families import PRECISION
from gradcheck_cli.diagnose.table import MISTAKES, ORDER, OVERFLOW, PLANTABLE, SWAPPED
from gradcheck_cli.formats.glyphs import to_ascii
from gradcheck_cli.mutate.plant import plants

PARTS = 8
"""Number of parts into which the mistakes are split, each with every n-th mistake."""


def share(number: int) -> list[int]:
    """Return the parts for a network: every third one, and others for the next network."""
    return [(number + step) % PARTS for step in range(0, PARTS, 3)]


PLANTED = [
    pytest.param(name, part, marks=[] if place == 0 else [pytest.mark.slow])
    for number, name in enumerate(NETWORKS)
    for place, part in enumerate(share(number))
]
"""Networks and parts; every network has one part in every run, and each another one."""


def visible(problem, gradients) -> bool:
    return any(c.wrong.any() for c in compared(problem, dict(gradients)))


def test_every_part_is_planted_in_several_networks():
    assert min(Counter(part for number in range(len(NETWORKS)) for part in share(number)).values()) >= 2


@pytest.mark.parametrize(("name", "part"), PLANTED)
def test_a_planted_mistake_is_named_in_whole_sentences(name, part):
    problem = NETWORKS[name]
    missed, count = [], Counter()
    for plant in islice(plants(problem), part, None, PARTS):
        if not visible(problem, plant.gradients) or plant.wrong.family is PRECISION:
            continue
        found = why(problem, dict(plant.gradients))
        assert_whole_sentences(found, problem)
        said = [each[0] for each in kinds(found) if len(each) == 1]
        count[plant.wrong.is_said_by(said)] += 1
        if not plant.wrong.is_said_by(said):
            missed.append((plant.wrong.kind, plant.where, plant.wrong.wrong, kinds(found)[:3]))
        if found.answers:
            assert found.answers[0].apart < 1e-6
            assert found.basis == "network"
    assert count.total() > 100 / PARTS
    assert missed == []


@pytest.mark.slow
def test_every_row_is_visible_in_one_of_these_networks():
    seen = set()
    for problem in (*NETWORKS.values(), *CONVOLUTIONS.values()):
        for plant in plants(problem):
            if id(plant.wrong) not in seen and visible(problem, plant.gradients):
                seen.add(id(plant.wrong))
    unseen = [(wrong.kind, wrong.wrong) for wrong in PLANTABLE if id(wrong) not in seen]
    elsewhere = {  # test_wrong_vectors.py, and test_mistake_pages.py, which runs each row's code
        "ignored labels",
        "embedding without gradient",
        "sign of the KL term",
        "sample weights",
        "class weights",  # three of its rows are of pos_weight
        "output activation missing",  # one of its rows is of dice
        "bias summed over the wrong axes",  # two of its rows are of conv1d
    }
    losses = ("contrastive: ", "cosine: ", "dice: ", "focal: ", "kl: ", "poisson: ", "triplet: ")
    kinds_unseen = {kind for kind, _ in unseen if not kind.startswith(losses)}
    assert kinds_unseen <= {"float32"} | elsewhere, unseen


def assert_whole_sentences(found, problem):
    for cause in (cause for answer in found.answers for cause in answer.causes):
        for text in (cause.sentence, cause.wrong, cause.right):
            assert "{" not in text
            assert "?" not in to_ascii(text)
        assert not cause.wrong or cause.wrong != cause.right
        assert cause.sentence.endswith(".")
        assert not cause.sentence[0].islower() or not cause.sentence[0].isascii()
        assert set(cause.where) <= {layer.name for layer in problem.network.layers}


def test_every_row_has_its_place_in_the_order():
    rows = [mistake for mistakes in MISTAKES.values() for mistake in mistakes]
    assert all(id(row) in ORDER for row in (*rows, *PLANTABLE, SWAPPED, OVERFLOW))
