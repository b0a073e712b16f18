"""A new row needs its own table and no other file: rows that are added at run time work everywhere.

The property tests of each table also run over the new rows, so their values, derivatives, roundings, orders
and draws are tested there.
"""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from diagnose.networks import NETWORKS, kinds, why
from new_rows import (
    NEW_ACTIVATIONS,
    NEW_INITIALISERS,
    NEW_LOSSES,
    NEW_MISTAKE,
    NEW_SCHEMES,
    add_mistake,
    add_rows,
)
from rich.cells import cell_len

from gradcheck_cli import Verdict, check
from gradcheck_cli.diagnose.nameable import NAMEABLE
from gradcheck_cli.diagnose.table import LIKELY
from gradcheck_cli.diagnose.wrong_scales import NAMES
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.sweep.picture import marker_of
from gradcheck_cli.formats.sweep.table import EXTRAPOLATED, FLAT, KINK, glyphs_of
from gradcheck_cli.mutate import mutate as mutation
from gradcheck_cli.mutate.plant import planted
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.part import Resting, Risen
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.schemes import SCHEMES, Scheme, plain_schemes
from gradcheck_cli.sweep.sweep import sweep


@pytest.fixture(autouse=True)
def more_rows(monkeypatch):
    add_rows(monkeypatch)


@pytest.mark.parametrize("table", [ACTIVATIONS, LOSSES, PENALTIES, INITIALISERS, SCHEMES])
def test_a_row_knows_its_name(table):
    assert [row.name for row in table.values()] == list(table)


# --- activations and losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("name", NEW_ACTIVATIONS)
def test_a_network_of_a_new_activation_agrees(name, differences, dtype):
    layers = {"units": 5, "activation": name, "batch_norm": True}, (4, name), (3, "identity")
    report = check(spec_of(*layers, samples=9, dtype=dtype, check={"differences": differences}))
    assert report.verdict is Verdict.AGREES


@pytest.mark.parametrize("name", ["softmax", *NEW_ACTIVATIONS])
def test_changes_pass_through_the_function_of_the_activation(name):
    rng, step = np.random.default_rng(6), Pointwise(ACTIVATIONS[name].with_options())
    z, samples = rng.uniform(1.0, 2.0, size=(2, 4)), np.array([0, 1, 1])
    rest, output = Resting(z, samples), Resting(step.forward({}, z), samples)
    part = Risen(rest, (np.array([2, 0, 3]),), np.array([0.01, -0.02, 0.03]))
    found = step.part({}, [part], output)
    np.testing.assert_allclose(found.whole, step.forward({}, part.whole), rtol=1e-13)


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_a_network_of_a_new_loss_agrees(name):
    report = check(spec_of((5, "tanh"), (3, "identity"), loss={"name": name, "scale": 0.5}, samples=9))
    assert report.verdict is Verdict.AGREES


@pytest.mark.parametrize(("slope", "is_right"), [(0.0, True), (1.0, True), (0.5, True), (3.0, False)])
def test_any_slope_between_those_of_both_sides_is_right_on_the_second_kink(tmp_path, slope, is_right):
    """With a bias of 6 and weights of 0, every z sits on the upper kink of relu6."""
    layers = (3, "relu6"), (2, "identity")
    parameters = dict(problem_of(*layers).parameters)
    parameters |= {"hidden1.weight": np.zeros((3, 4)), "hidden1.bias": np.full(3, 6.0)}
    np.savez(tmp_path / "p.npz", **parameters)
    own = {"parameters": {"file": tmp_path / "p.npz"}}
    problem = problem_of(*layers, **own)
    (kink,) = problem.objective.kinks.of_nodes.values()
    assert kink.mask.all()
    gradients = right_gradients(problem)
    dL_da = 2.0 * (problem.objective.output - problem.target) / len(problem.x)
    delta = slope * dL_da @ problem.parameters["output.weight"]
    gradients |= {"hidden1.weight": delta.T @ problem.x, "hidden1.bias": delta.sum(axis=0)}
    np.savez(tmp_path / "g.npz", **gradients)
    report = check(spec_of(*layers, **own, gradients={"file": tmp_path / "g.npz"}))
    assert (report.verdict is not Verdict.WRONG) is is_right


@pytest.mark.parametrize("name", NEW_ACTIVATIONS)
def test_a_new_activation_is_explained_and_its_mistakes_are_planted_and_named(name):
    spec = spec_of((4, name), (3, "tanh"), loss="log_cosh", samples=9)
    assert explain(spec).layers[-1].activation == name
    found = mutation.mutate(spec, sample=40)
    assert found.right is Verdict.AGREES
    assert found.passed == ()
    assert name in render("table", found, View(), "net.yaml")


@pytest.mark.parametrize("name", NEW_ACTIVATIONS)
def test_another_network_may_have_the_new_activation(name):
    """Right gradients of a network with this activation, for a spec with tanh."""
    large = {"parameters": {"init": "normal", "scale": 3.0, "seed": 1}}  # on every piece of relu6
    other, own = (problem_of((4, each), (3, "identity"), **large) for each in (name, "tanh"))
    found = why(own, right_gradients(other))
    assert f"hidden1 has {name}; the spec says tanh" in found.answers[0].causes[0].sentence


# --- schemes and initialisers ------------------------------------------------------------------------------


@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("name", NEW_SCHEMES)
def test_a_check_with_a_new_scheme_agrees(name, differences):
    how = {"scheme": name, "differences": differences}
    assert check(spec_of((4, "tanh"), (3, "sigmoid"), check=how)).verdict is Verdict.AGREES


def test_a_sweep_draws_the_new_schemes_with_marks_of_their_own():
    found = sweep(spec_of((4, "tanh"), (3, "sigmoid")))
    assert {curve.scheme for curve in found.curves} >= set(NEW_SCHEMES)
    text = render("table", found, View(), "net.yaml")
    for curve in found.curves:
        assert f"{glyphs_of(curve.scheme)[0]} {curve.scheme}" in text
        assert curve.verdict is not Verdict.WRONG


def test_any_number_of_plain_schemes_have_marks(monkeypatch):
    assert len(plain_schemes()) == 8
    for number in range(12):
        name = f"forward {number}"
        monkeypatch.setitem(SCHEMES, name, Scheme(name, (0, 1), (-1, 1), 1, 2.0**-26))
    marks = [glyph for name in plain_schemes() for glyph in glyphs_of(name)]
    assert len({*marks, EXTRAPOLATED, KINK, FLAT}) == len(marks) + 3
    assert all(cell_len(glyph) == 1 for glyph in marks)
    assert all(marker_of(name) for name in plain_schemes())


@pytest.mark.parametrize("name", NEW_INITIALISERS)
def test_a_network_with_a_new_initialiser_agrees(name):
    report = check(spec_of((4, "tanh"), (3, "identity"), parameters={"init": name, "seed": 3}))
    assert report.verdict is Verdict.AGREES


# --- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sigmoid", "tanh, cross-entropy", "elu, hinge", "batch norm"])
def test_a_new_mistake_is_named_wherever_it_is_made(monkeypatch, name):
    add_mistake(monkeypatch)
    problem = NETWORKS[name]
    plants = list(planted(problem, [NEW_MISTAKE]))
    assert plants
    for plant in plants:
        found = why(problem, {name: plant.gradients[name] for name in problem.network.shapes})
        assert NEW_MISTAKE.is_said_by([each[0] for each in kinds(found) if len(each) == 1])
        (cause,) = found.answers[0].causes
        assert cause.where == (plant.where,)
        assert cause.family == "activation derivative"


def test_a_new_mistake_is_planted_and_says_what_would_show_it(monkeypatch):
    add_mistake(monkeypatch)
    monkeypatch.setattr("gradcheck_cli.mutate.plant.PLANTABLE", (NEW_MISTAKE,))
    seen = mutation.mutate(spec_of((4, "sigmoid"), (3, "tanh")))
    assert [(mutant.kind, mutant.named) for mutant in seen.mutants] == [(NEW_MISTAKE.kind, True)] * 2
    unchecked = mutation.mutate(spec_of((4, "sigmoid"), (3, "tanh"), check={"parameters": ["output.*"]}))
    assert [mutant.shown_by for mutant in unchecked.mutants if not mutant.visible] == [mutation.LEFT_OUT]
    zero = {"init": "zeros"}  # tanh'(0) is 1, cubed or not
    unseen = mutation.mutate(spec_of((4, "tanh"), (3, "tanh"), parameters=zero))
    assert {mutant.shown_by for mutant in unseen.mutants} == {NEW_MISTAKE.shown_by}


def test_a_kind_that_refines_another_is_a_kind():
    known = {row.kind for row in NAMEABLE}
    assert all(row.refined_by <= known - {row.kind} for row in NAMEABLE)


def test_rows_of_one_kind_in_a_chain_are_of_one_family():
    families = {(row.kind, row.family) for row in (*LIKELY, *NAMES)}
    assert len(families) == len({kind for kind, _ in families})
