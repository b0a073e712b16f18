"""If a spec describes another network than the code, the difference is named, and no layer is blamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnose.networks import NETWORKS, compared, kinds, problem, right
from mistakes import Backprop

from gradcheck_cli import Report, check, load_spec
from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.other_networks import KIND, OF_FORWARD_PASS, OF_LOSS, OtherNetwork, other_networks
from gradcheck_cli.formats.words.why import diagnosed
from gradcheck_cli.problem.problem import Problem, build_problem


def others(changes: Any, share: int) -> list[Any]:
    """Return variants of every network here: a share for every run, and more for the gate."""
    found = [
        (of, each, f"{name}: {each.has}")
        for name, of in NETWORKS.items()
        for each in other_networks(of, changes)
    ]
    return [
        pytest.param(of, each, id=label, marks=() if k % share == 0 else (pytest.mark.slow,))
        for k, (of, each, label) in enumerate(found)
        if k % share == 0 or k % 16 == 1
    ]


def said(of: Problem, other: OtherNetwork, loss: float | None) -> list[str]:
    found = diagnose(compared(of, dict(other.gradients())), of, loss=loss)
    return [cause.sentence for answer in found.answers for cause in answer.causes]


@pytest.mark.parametrize(("of", "other"), others((*OF_FORWARD_PASS, *OF_LOSS), share=7))
def test_differences_from_the_spec_are_named_if_the_loss_is_known(of, other):
    sentences = said(of, other, other.loss)
    assert f"The gradients are those of a network {other.has}; the spec says {other.says}." in sentences
    assert sentences[0].startswith("The gradients are those of a network ")


@pytest.mark.parametrize(("of", "other"), others(OF_FORWARD_PASS, share=23))
def test_without_the_loss_it_is_named_unless_one_mistake_in_backprop_does_the_same(of, other):
    found = diagnose(compared(of, dict(other.gradients())), of)
    assert found.answers
    assert all(len(answer.causes) == 1 for answer in found.answers)
    if found.answers[0].causes[0].kind != KIND:
        assert found.layers == ("output",)  # whose activation affects only its own derivative


def test_it_says_which_layer_and_what_the_spec_says():
    of, other = NETWORKS["sigmoid"], problem("sigmoid", "tanh", "sigmoid", "sigmoid")
    found = diagnose(compared(of, right(other)), of)
    (answer,) = found.answers
    assert answer.causes[0].sentence == (
        "The gradients are those of a network whose layer hidden2 has tanh; the spec says sigmoid."
    )
    assert found.layers == ("hidden2",)
    assert found.observations == ()


def test_an_activation_shared_by_several_layers_is_one_difference():
    of, other = NETWORKS["sigmoid"], problem("silu", "silu", "silu", "sigmoid")
    (answer,) = diagnose(compared(of, right(other)), of).answers
    assert "whose layers hidden1, hidden2 and hidden3 have silu" in answer.causes[0].sentence


def by_hand(of: Problem) -> np.ndarray:
    """Return the loss of a network with one batch-normalised tanh layer, with its variance over N − 1."""
    h, o = (lambda name: of.parameters[f"hidden1.{name}"]), (lambda name: of.parameters[f"output.{name}"])
    z = of.x @ h("weight").T + h("bias")
    centred = z - z.mean(axis=0)
    variance = (centred * centred).sum(axis=0) / (len(z) - 1)
    a = np.tanh(h("gamma") * centred / np.sqrt(variance + 1e-5) + h("beta"))
    d = a @ o("weight").T + o("bias") - of.target
    return (d * d).sum() / len(z)


def complex_step(of: Problem, name: str, index: tuple[int, ...]) -> float:
    moved = of.parameters[name].astype(complex)
    moved[index] += 1e-30j
    return by_hand(replace(of, parameters={**of.parameters, name: moved})).imag / 1e-30


def test_a_variance_over_n_minus_1_is_named():
    of = problem("tanh", "identity", batch_norm=True, samples=7)
    network = of.network.with_layers((of.network.layers[0], replace(of.network.output, batch_norm=None)))
    of = replace(of, network=network)
    found = {
        name: np.array([complex_step(of, name, i) for i in np.ndindex(shape)]).reshape(shape)
        for name, shape in network.shapes.items()
    }
    for loss in (None, float(by_hand(of))):
        (answer,) = diagnose(compared(of, found), of, loss=loss).answers
        assert "by N − 1" in answer.causes[0].sentence


# --- where nothing fits ------------------------------------------------------------------------------------


def unknown(of: Problem) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {name: rng.normal(size=value.shape) for name, value in right(of).items()}


def test_where_nothing_fits_it_asks_for_the_loss():
    of = NETWORKS["sigmoid"]
    found = diagnose(compared(of, unknown(of)), of)
    assert found.answers == ()
    ours = float(of.objective.total)
    assert f"If your loss is not {ours:.6g}, the spec describes a different network" in found.observations[-1]


def test_it_does_not_ask_for_a_loss_equal_to_the_specs():
    of = NETWORKS["sigmoid"]
    found = diagnose(compared(of, unknown(of)), of, loss=float(of.objective.total))
    assert found.layers == ("output",)
    assert not any("another network" in each for each in found.observations)


def test_where_the_topmost_layer_is_right_it_does_not_ask():
    of = NETWORKS["sigmoid"]
    wrong = {name: value for name, value in unknown(of).items() if not name.startswith("output")}
    outputs = {name: value for name, value in right(of).items() if name.startswith("output")}
    found = diagnose(compared(of, {**outputs, **wrong}), of)
    assert not any("another network" in each for each in found.observations)


def test_with_another_loss_no_layer_is_blamed():
    of = NETWORKS["sigmoid"]
    found = diagnose(compared(of, unknown(of)), of, loss=7.25)
    assert (found.answers, found.layers) == ((), ())
    (said,) = found.observations
    assert said.startswith("Your loss is 7.25, but the spec's is ")


def test_a_known_mistake_stays_the_answer_where_the_loss_is_the_specs():
    of = NETWORKS["sigmoid"]
    wrong = {name: value / 4.0 for name, value in right(of).items()}
    told = diagnose(compared(of, wrong), of, loss=float(of.objective.total))
    assert KIND not in {kind for each in kinds(told) for kind in each}
    assert kinds(told) == kinds(diagnose(compared(of, wrong), of))


def test_with_a_loss_to_go_with_it_the_same_gradient_is_that_of_another_reduction():
    of = NETWORKS["sigmoid"]
    wrong = {name: value / 4.0 for name, value in right(of).items()}
    found = diagnose(compared(of, wrong), of, loss=float(of.objective.total) / 4.0)
    assert "whose loss is mse (mean); the spec says mse (batchmean)." in found.answers[0].causes[0].sentence


def test_the_kind_can_be_withheld():
    of, other = NETWORKS["sigmoid"], problem("sigmoid", "tanh", "sigmoid", "sigmoid")
    found = diagnose(compared(of, right(other)), of, without=frozenset({KIND}))
    assert KIND not in {kind for each in kinds(found) for kind in each}


# --- code --------------------------------------------------------------------------------------------------


def of_code(of: Problem, loss_of: Problem, found: dict[str, np.ndarray], **options: Any) -> Diagnosis:
    """Return the diagnosis of code that returns one network's loss while the spec describes `of`."""
    loss = float(loss_of.objective.total)
    return diagnose(compared(loss_of, found), of, is_its_loss=False, loss=loss, samples=11, **options)


def test_right_gradients_of_the_network_with_another_loss_returned():
    of, other = NETWORKS["sigmoid"], problem("sigmoid", "tanh", "sigmoid", "sigmoid")
    ((cause,),) = [answer.causes for answer in of_code(of, other, right(of)).answers]
    assert cause.sentence == (
        f"The gradients are those of the network section, whose loss is {of.objective.total:.6g}; the loss "
        f"that the function returned is different: {other.objective.total:.6g}."
    )


def test_a_mistake_is_named_in_the_network_that_the_code_computes():
    of, other = NETWORKS["sigmoid"], problem("sigmoid", "tanh", "sigmoid", "sigmoid")
    wrong = Backprop(bias=lambda delta, i: delta.mean(axis=0))(other)
    found = of_code(of, other, wrong)
    assert kinds(found)[0] == ("bias averaged",)
    assert found.observations[0] == (
        "The function returned the loss of a network whose layer hidden2 has tanh; "
        "the network section says sigmoid."
    )


def test_where_no_network_has_that_loss_the_arrays_tell_and_no_missing_section_is_blamed():
    of = NETWORKS["sigmoid"]
    other = replace(of, target=1.0 - of.target)
    found = of_code(of, other, {name: 3.0 * value for name, value in right(other).items()})
    assert found.basis == "another network"
    assert kinds(found)[0] == ("accumulated",)
    said = " ".join(each.text for each in diagnosed(found))
    assert "The network section describes a different loss" in said
    assert "network: {inputs" not in said


# --- a file ------------------------------------------------------------------------------------------------


SPEC = """\
network:
  inputs: 3
  layers: [{units: 4, activation: ACTIVATION}, {units: 2, activation: sigmoid}]
  loss: mse
data: {synthetic: normal, samples: 5}
gradients: {file: g.npz}
"""


def checked(folder: Path, described: str, computed: str, **more: Any) -> Report:
    """Check one network's gradients with another network in the spec."""
    (folder / "net.yaml").write_text(SPEC.replace("ACTIVATION", computed), encoding="utf-8")
    theirs = build_problem(load_spec(folder / "net.yaml"))
    more = {name: value(theirs) for name, value in more.items()}
    np.savez(folder / "g.npz", **right(theirs), **more)
    (folder / "net.yaml").write_text(SPEC.replace("ACTIVATION", described), encoding="utf-8")
    return check(load_spec(folder / "net.yaml"))


def its_loss(of: Problem) -> float:
    return float(of.objective.total)


@pytest.mark.parametrize("more", [{}, {"loss": its_loss}])
def test_a_spec_that_was_copied_wrong_is_wrong_and_says_so(tmp_path, more):
    report = checked(tmp_path, "tanh", "sigmoid", **more)
    assert report.exit_code == 1
    assert report.diagnosis.answers[0].causes[0].sentence == (
        "The gradients are those of a network whose layer hidden1 has sigmoid; the spec says tanh."
    )
    assert any("the loss in g.npz is" in note for note in report.unusual) == bool(more)


def test_a_different_loss_is_noted_even_if_the_gradients_agree(tmp_path):
    report = checked(tmp_path, "tanh", "tanh", loss=lambda of: its_loss(of) + 1.0)
    assert report.passed
    assert report.unusual[0].startswith("the loss in g.npz is ")


def test_a_loss_that_agrees_is_not_mentioned(tmp_path):
    report = checked(tmp_path, "tanh", "tanh", loss=lambda of: its_loss(of) * (1.0 + 1e-9))
    assert report.passed
    assert report.unusual == ()


def test_a_parameter_may_be_called_loss(tmp_path):
    report = checked(tmp_path, "tanh", "tanh")
    arrays = dict(np.load(tmp_path / "g.npz"))
    arrays["loss"] = arrays.pop("output.bias")
    np.savez(tmp_path / "g.npz", **arrays)
    text = SPEC.replace("ACTIVATION", "tanh").replace("g.npz", "g.npz, names: {loss: output.bias}")
    (tmp_path / "net.yaml").write_text(text, encoding="utf-8")
    assert check(load_spec(tmp_path / "net.yaml")).passed is report.passed is True


# --- two changes at once -----------------------------------------------------------------------------------


TWICE = [
    (problem("tanh", "identity", loss="huber"), "layer hidden1 has tanh and whose loss is huber (batchmean)"),
    (problem("relu", "identity", reduction="sum"), "layer hidden1 has relu and whose loss is mse (sum)"),
    (problem("sigmoid", "tanh", loss="l1"), "layer output has tanh and whose loss is l1 (batchmean)"),
]
"""Networks that differ from a spec of sigmoid, identity and mse in an activation and in the loss."""


@pytest.mark.parametrize(("other", "told"), TWICE)
@pytest.mark.parametrize("knows_loss", [True, False])
def test_another_activation_and_another_loss_at_once_are_both_named(other, told, knows_loss):
    of = problem("sigmoid", "identity")
    loss = float(other.objective.total) if knows_loss else None
    found = diagnose(compared(of, right(other)), of, loss=loss)
    sentence = found.answers[0].causes[0].sentence
    assert f"The gradients are those of a network whose {told}; the spec says " in sentence
    assert sentence.endswith(" and mse (batchmean).")


def test_code_with_another_activation_and_another_loss_is_diagnosed_in_its_own_network():
    of, (other, told) = problem("sigmoid", "identity"), TWICE[0]
    wrong = Backprop(bias=lambda delta, i: delta.mean(axis=0))(other)
    found = of_code(of, other, wrong)
    assert kinds(found)[0] == ("bias averaged",)
    assert f"The function returned the loss of a network whose {told}; " in found.observations[0]
