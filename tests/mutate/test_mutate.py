"""The report on planted mistakes states truly what a check can find."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from judged import Evaluations

from gradcheck_cli import InputError, Verdict, load_spec
from gradcheck_cli.cli import main
from gradcheck_cli.diagnose.table import PLANTABLE
from gradcheck_cli.errors import ExitCode
from gradcheck_cli.formats import View, render
from gradcheck_cli.mutate.mutate import (
    LEFT_OUT,
    NO_MISTAKE,
    Mutant,
    Mutation,
    _drawn,
    by_kind,
    mutate,
)
from gradcheck_cli.mutate.plant import plants
from gradcheck_cli.numerical.looks import Remembered
from gradcheck_cli.spec.parameters import InitialisedParameters
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.load import subject_of

LARGER = ({"units": 4, "activation": "tanh"}, {"units": 2, "activation": "sigmoid"})
SMALL = ({"units": 2, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"})


def spec(
    *layers: dict[str, object],
    samples: int = 7,
    bias: str = "same",
    **check: object,
) -> Spec:
    return Spec.model_validate(
        {
            "network": {
                "inputs": 3,
                "layers": layers or LARGER,
                "loss": "mse",
                "penalty": {"l2": 0.01},
            },
            "parameters": {"init": "xavier", "seed": 1, "bias": bias},
            "data": {"synthetic": "normal", "samples": samples, "seed": 2},
            "check": check,
        }
    )


@pytest.fixture(scope="module")
def mutation() -> Mutation:
    return mutate(spec())


def test_every_visible_mistake_is_caught_and_named(mutation):
    assert len(mutation.visible) > 100
    assert mutation.caught == len(mutation.visible)
    assert mutation.named == mutation.caught
    assert mutation.right is Verdict.AGREES
    assert mutation.exit_code is ExitCode.AGREES


def test_the_smooth_config_of_an_output_layer_catches_all_it_can_see(configs):
    found = mutate(load_spec(configs / "output_layer.yaml"))
    assert found.caught == len(found.visible) > 50
    assert found.exit_code is ExitCode.AGREES


LONG = {"digits_gru": 5, "digits_lstm": 5, "raschka_mnist": 8}
"""Configs whose mistakes take seconds each, with the size of the sample."""


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("deep_tanh_cross_entropy", 20),
        *(pytest.param(name, sample, marks=pytest.mark.slow) for name, sample in LONG.items()),
    ],
)
def test_the_mistakes_in_a_config_are_caught_and_nearly_all_are_named(name, sample, configs):
    of = load_spec(configs / f"{name}.yaml")
    drawn = of.check.model_copy(update={"seed": sample})
    found = mutate(of.model_copy(update={"check": drawn}), sample=sample)
    assert found.caught == len(found.visible) > sample / 2
    assert found.caught - found.named <= max(1, 0.05 * found.caught)


def test_an_invisible_mistake_says_what_would_reveal_it():
    hidden = [
        mutant for mutant in mutate(spec(*SMALL, samples=1, bias="zeros")).mutants if not mutant.visible
    ]
    kinds = by_kind(hidden)
    assert {mutant.shown_by for mutant in kinds["bias averaged"]} == {"more than one sample"}
    assert {mutant.shown_by for mutant in kinds["penalty on the biases too"]} == {"biases other than 0"}
    assert all(mutant.shown_by for mutant in hidden)


@pytest.fixture
def planting(monkeypatch):
    """Plant mistakes of one kind alone, which takes a hundredth of the time."""

    def only(kind: str) -> None:
        rows = tuple(row for row in PLANTABLE if row.kind == kind)
        monkeypatch.setattr("gradcheck_cli.mutate.plant.PLANTABLE", rows)

    return only


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_no_data_are_promised_for_what_is_no_mistake_of_this_activation(activation, planting):
    planting("activation derivative at a")
    mutants = mutate(spec({"units": 4, "activation": activation}, {"units": 3}, samples=9)).mutants
    (at_a,) = (m for m in mutants if m.kind == "activation derivative at a" and m.where == "hidden1")
    assert not at_a.visible
    assert at_a.shown_by == NO_MISTAKE


def test_right_formulas_are_not_counted_among_the_mistakes_that_other_data_would_show(planting):
    planting("activation derivative at a")
    layers = [{"units": 4, "activation": name} for name in ("relu", "leaky_relu", "tanh")]
    told = render("table", mutate(spec(*layers, {"units": 3}, samples=9)), View(), "net.yaml")
    sentence = "With the activation of layers hidden1 and hidden2, this formula is right: "
    assert f"{sentence}activation derivative at a." in " ".join(told.split())
    assert "would make no difference" not in told


def test_what_other_parameters_would_show_is_a_mistake(planting):
    planting("activation derivative missing")
    zeros = spec().model_copy(update={"parameters": InitialisedParameters(init="zeros")})
    hidden = [m for m in mutate(zeros).mutants if m.kind == "activation derivative missing" and not m.visible]
    assert hidden  # tanh'(0) is 1
    assert not any(m.shown_by == NO_MISTAKE for m in hidden)


def test_unchecked_parameters_are_reported(planting):
    planting("bias averaged")
    found = mutate(spec(*SMALL, parameters=["output.*"]))
    hidden = [m for m in found.mutants if m.where == "hidden1" and m.kind == "bias averaged"]
    assert [m.shown_by for m in hidden] == [LEFT_OUT]


def test_progress_counts_mistakes():
    class Count:
        expected = done = 0

        def expect(self, evaluations: int) -> None:
            self.expected += evaluations

        def advance(self, evaluations: int) -> None:
            self.done += evaluations

    count = Count()
    found = mutate(spec(SMALL[-1]), count)
    assert count.expected == count.done == len(found.mutants)


KINKED = {"units": 4, "activation": "relu", "batch_norm": True}


def kinked(**check: object) -> Spec:
    """A spec with kinks, a normalisation and a penalty, which all need closer looks."""
    raw = spec(samples=9, **check).model_dump(exclude_unset=True)
    raw["network"]["layers"] = [KINKED, *raw["network"]["layers"]]
    return Spec.model_validate(raw)


@pytest.mark.parametrize(
    "of", [spec(samples=4), kinked(), kinked(differences="literal"), kinked(scheme="central")]
)
def test_shared_looks_change_no_verdict(of):
    subject = subject_of(of)
    looks = Remembered()
    subject.check(of.check, looks=looks)
    planted = list(plants(subject.problem))
    for plant in planted[:: max(1, len(planted) // 6)]:
        values = {name: plant.gradients[name] for name in subject.analytic.values}
        wrong = replace(subject, analytic=replace(subject.analytic, values=values))
        alone, shared = wrong.check(of.check), wrong.check(of.check, looks=looks)
        for one, other in zip(alone.comparisons, shared.comparisons, strict=True):
            assert (one.wrong == other.wrong).all(), (plant.wrong.kind, one.name)
            assert (one.unresolved == other.unresolved).all(), (plant.wrong.kind, one.name)
            assert np.allclose(one.numerical, other.numerical, rtol=1e-9, atol=1e-14, equal_nan=True)
        assert alone.diagnosis == shared.diagnosis


def test_each_look_is_taken_once():
    of = kinked()
    subject, looks, first, again = subject_of(of), Remembered(), Evaluations(), Evaluations()
    subject.check(of.check, first, looks=looks)
    subject.check(of.check, again, looks=looks)
    assert first.count > 300
    assert again.count == 0


def test_several_processes_find_the_same():
    assert mutate(spec(jobs=2), sample=30) == mutate(spec(), sample=30)


def test_a_sample_is_drawn_by_the_seed_over_all_kinds(mutation):
    kinds = len(by_kind(mutation.mutants))
    assert len(by_kind(mutate(spec(), sample=kinds).mutants)) == kinds
    few = mutate(spec(), sample=10)
    assert len(few.mutants) == len(by_kind(few.mutants)) == 10
    assert few.applicable == len(mutation.mutants)
    assert set(few.mutants) <= set(mutation.mutants)
    assert mutate(spec(), sample=10) == few
    assert mutate(spec(seed=1), sample=10).mutants != few.mutants
    everything = list(plants(subject_of(spec()).problem))
    assert _drawn(everything, 10_000, 0) == everything
    assert few.exit_code is ExitCode.AGREES
    assert f"10 of {few.applicable} mistakes, of 10 kinds" in render("table", few, View(), "n.yaml")


class Impatient:
    """A progress that interrupts after this many mistakes."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def expect(self, evaluations: int) -> None: ...

    def advance(self, evaluations: int) -> None:
        self.patience -= evaluations
        if self.patience <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_keeps_what_was_found(mutation, jobs):
    some = mutate(spec(jobs=jobs), Impatient(12))
    assert some.interrupted
    assert some.exit_code is ExitCode.INTERRUPTED
    assert 12 <= len(some.mutants) < len(mutation.mutants)
    assert set(some.mutants) <= set(mutation.mutants)


def test_an_interrupted_command_prints_its_table_and_ends_with_130(tmp_path, capsys, monkeypatch):
    file = tmp_path / "net.yaml"
    file.write_text(
        "network: {inputs: 2, layers: [{units: 1, activation: tanh}], loss: mse}\n"
        "data: {synthetic: normal, samples: 5}\n",
        encoding="utf-8",
    )
    impatient = Impatient(7)
    monkeypatch.setattr("gradcheck_cli.cli.progress.Progress.advance", lambda self, n: impatient.advance(n))
    with pytest.raises(SystemExit) as end:
        main(["mutate", str(file)])
    out, err = capsys.readouterr()
    assert end.value.code == 130
    assert "7 of " in out
    assert "interrupted: 7 of " in err
    assert out.splitlines()[-1].startswith("? caught")


def test_a_network_is_needed():
    without = Spec.model_validate({"gradients": {"python": "f.py:f"}})
    with pytest.raises(InputError, match="needs a network"):
        mutate(without)


SEEN = Mutant("sign", "scale or reduction", "output", "−∂L", 1.0, Verdict.WRONG, named=True, said=("sign",))
HIDDEN = replace(SEEN, verdict=None, named=False, said=(), shown_by="more than one sample")


@pytest.mark.parametrize(
    ("mutants", "kinked", "code"),
    [
        ((SEEN, HIDDEN), False, 0),
        ((SEEN, replace(SEEN, verdict=Verdict.AGREES)), False, 1),
        ((SEEN, replace(SEEN, verdict=Verdict.AGREES)), True, 3),
        ((SEEN, replace(SEEN, verdict=Verdict.UNRESOLVED)), False, 3),
        ((HIDDEN,), False, 3),
        ((), False, 3),
    ],
)
def test_the_exit_code_tells_whether_a_visible_mistake_passes(mutants, kinked, code):
    assert Mutation("3-2", "mse", Verdict.AGREES, mutants, kinked).exit_code == code


def test_the_last_line_is_the_share_that_was_caught_and_named():
    found = Mutation("3-2", "mse", Verdict.AGREES, (SEEN, replace(SEEN, named=False), HIDDEN))
    last = render("table", found, View(), "net.yaml").splitlines()[-1]
    assert last == "✓ caught 2 of 2 visible mistakes (100.0%), and named 1 of them (50.0%)."


def test_a_mistake_that_passes_is_named():
    passed = replace(SEEN, verdict=Verdict.AGREES)
    text = render("table", Mutation("3-2", "mse", Verdict.AGREES, (passed,)), View(), "net.yaml")
    assert "✗ passed: sign in layer output." in text


def test_the_table_has_only_what_is_not_caught_and_named_unless_all_is_asked_for():
    unnamed = replace(SEEN, kind="another", named=False)
    found = Mutation("3-2", "mse", Verdict.AGREES, (SEEN, replace(SEEN, kind="third"), unnamed, HIDDEN))
    # HIDDEN marks something else: a kind that is caught and named wherever it is visible
    rows = {level: rows_of(render("table", found, View(level=level), "net.yaml")) for level in (0, 1)}
    assert rows[0] == ["another"]
    assert set(rows[1]) == {"sign", "third", "another"}


def rows_of(text):
    """Return the kinds that have a row in the table."""
    _, table = text.split("  mistake ", maxsplit=1)
    _, *rows = table.split("\n\n")[0].splitlines()
    return [row.split()[0] for row in rows]


def test_of_parameters_that_are_left_out_a_number_and_what_to_say_is_enough():
    hidden = tuple(replace(HIDDEN, kind=kind, shown_by=LEFT_OUT) for kind in ("sign", "row"))
    found = Mutation("3-2", "mse", Verdict.AGREES, (SEEN, *hidden))
    assert f"· {LEFT_OUT}: 2 mistakes\n" in render("table", found, View(), "net.yaml")
    assert f"· {LEFT_OUT}: sign and row\n" in render("table", found, View(level=1), "net.yaml")


@pytest.mark.parametrize("width", [40, 80, 200, None])
def test_no_line_of_the_table_is_wider_than_the_terminal(mutation, width):
    text = render("table", mutation, View(width=width), "net.yaml")
    assert all(len(line) <= (width or 1000) for line in text.splitlines())


def test_the_command_prints_json_for_scripts(tmp_path, capsys):
    file = tmp_path / "net.yaml"
    file.write_text(
        "network: {inputs: 2, layers: [{units: 2, activation: tanh}, {units: 1}], loss: mse}\n"
        "data: {synthetic: normal, samples: 5}\n"
        "parameters: {init: xavier, bias: same}\n",
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as end:
        main(["mutate", str(file), "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert end.value.code == document["exit_code"] == 0
    assert document["planted"] == len(document["mistakes"]) > document["visible"] == document["caught"] > 50
    assert {"kind", "where", "verdict", "named", "said", "shown_by"} <= document["mistakes"][0].keys()
