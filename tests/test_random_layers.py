"""A small share of the benchmark of random networks with every kind of layer, with new seeds in every run."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from drawn_layers import FEATURES
from paths import ROOT
from random_layers import TWISTS, kinds_of, random_layers
from shares import first

from gradcheck_cli.numerical.looks import Remembered
from gradcheck_cli.spec.layers import KINDS
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.network import network_subject

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

import layer_diagnosis
from layer_networks import Checked, Hull, Job, examine
from sides_at_kinks import AtKinks, some_sides_give

DRAWN = np.random.default_rng(1027)


@pytest.mark.parametrize("twist", TWISTS)
def test_no_right_gradient_is_wrong_and_no_mistake_passes(twist):
    for kind in DRAWN.choice(list(FEATURES), size=1):
        job = Job(str(kind), twist, int(DRAWN.integers(2**31)))
        tally = examine(job)
        assert not tally.rights[twist, "wrong"], job
        assert not tally.rights[twist, "contradiction"], job
        passed = [remark for remark in tally.remarks if " agrees, " in remark]
        assert not passed


def test_every_kind_of_layer_is_drawn():
    """A new kind in the spec needs a row in the benchmark's table."""
    options_of_others = {"units", "flatten"}
    assert set(KINDS) - options_of_others <= set(FEATURES)
    for kind in FEATURES:
        raw = random_layers(3, kind)
        assert kind in set(kinds_of(raw)), kind
        Spec.model_validate(raw)


@pytest.mark.parametrize("kind", first(1, sorted(layer_diagnosis.SUBJECTS, reverse=True)))
def test_a_pass_by_hand_has_the_right_gradients_and_its_mistakes_are_not_blamed_on_others(kind):
    counts, remarks = layer_diagnosis.examine(kind, int(DRAWN.integers(2**31)))
    assert not counts[kind, "another gradient"]
    assert not counts[kind, "right layer blamed"], remarks
    assert not counts[kind, "passed"], remarks
    assert counts[kind, "planted"] > 0


@pytest.mark.parametrize(
    ("change", "exact", "excuse"),
    [(1e-17, 1e-17, "vanishing"), (1e-3, 1e-8, "made of rounding"), (1e-3, 1e-3, "")],
)
def test_a_plant_counts_only_if_extended_precision_bears_it_out(change, exact, excuse):
    """The hidden units are off in every sample, so the gradient of their biases is exactly 0."""
    data = {"x": [[-1.0, -2.0], [-0.5, -1.0], [-2.0, -0.1]], "y": [0, 1, 1]}
    parameters = {"hidden1.weight": np.ones((3, 2)), "hidden1.bias": np.zeros(3)}
    problem = problem_of((3, "relu"), (2, "identity"), inputs=2, loss="cross_entropy", data=data)
    spec = spec_of((3, "relu"), (2, "identity"), inputs=2, loss="cross_entropy", data=data)
    subject = network_subject(spec, replace(problem, parameters={**problem.parameters, **parameters}))
    checked = Checked(spec, subject, Remembered())
    assert not checked.right["hidden1.bias"].any()

    def changed(by: float) -> dict[str, np.ndarray]:
        return {name: by * (name == "hidden1.bias") + 0.0 * value for name, value in checked.right.items()}

    wrong = {name: checked.right[name] + moved for name, moved in changed(change).items()}
    assert checked.excuse(wrong, lambda: changed(exact), Hull({}, {})) == excuse


def test_an_extreme_at_kinks_is_the_sum_of_the_best_sides_of_all_kinks():
    """Both samples are 0, so that every hidden unit is on the kink of relu in both."""
    data = {"x": [[0.0, 0.0], [0.0, 0.0]], "y": [0, 1]}
    parameters = {"init": "xavier", "seed": int(DRAWN.integers(2**31)), "bias": "zeros"}
    layers, rest = ((3, "relu"), (2, "identity")), {"inputs": 2, "loss": "cross_entropy", "data": data}
    problem = problem_of(*layers, parameters=parameters, **rest)
    at, right = AtKinks.of(problem), right_gradients(problem)
    assert len(at.options) == 6
    delta = np.array([[-0.25, 0.25], [0.25, -0.25]]) @ problem.parameters["output.weight"]
    high = np.maximum(delta, 0.0).sum(axis=0)
    for j in range(3):
        assert at.extreme("hidden1.bias", j, 1.0) == pytest.approx(high[j])
        assert at.extreme("hidden1.bias", j, -1.0) == pytest.approx(-high[j])
    for share, between in ((0.9, True), (1.1, False)):
        other = {**right, "hidden1.bias": share * high}
        assert some_sides_give(problem, other, right, right, right) is between
