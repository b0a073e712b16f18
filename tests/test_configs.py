"""The example specs have the verdicts that they promise."""

from __future__ import annotations

import re
import string
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from gradcheck_cli import Report, Verdict, check, load_spec
from gradcheck_cli.network.network import backprop
from gradcheck_cli.numerical.reference import LiteralDifferences, UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.load import tensors_of

DATA = ROOT / "configs" / "data"
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
LITERALLY = [
    "output_layer",
    "digits_mlp",
    "raschka_mnist",
    "deep_tanh_cross_entropy",
    "relu_huber",
    "batch_norm",
    "digits_conv",
    "digits_gru",
]
WRONG = ("wrong_gradient.yaml", "wrong_conv.yaml", "wrong_lstm.yaml", "book_trap.yaml")


def test_the_promised_configs_exist():
    assert {path.name for path in CONFIGS} >= {
        "output_layer.yaml",
        "digits_mlp.yaml",
        "raschka_mnist.yaml",
        "deep_tanh_cross_entropy.yaml",
        "relu_huber.yaml",
        "batch_norm.yaml",
        "digits_conv.yaml",
        "digits_lstm.yaml",
        "transformer_block.yaml",
        "lenet.yaml",
        "residual_conv.yaml",
        "char_rnn.yaml",
        "digits_gru.yaml",
        "mlp_mixer.yaml",
        "autoencoder.yaml",
        *WRONG,
    }


@cache
def report_on(path: Path) -> Report:
    return check(load_spec(path))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_verdict_and_the_tensors_are_those_the_config_promises(path):
    report = report_on(path)
    assert report.verdict is (Verdict.WRONG if path.name in WRONG else Verdict.AGREES)
    assert report.unresolved == 0
    assert list(tensors_of(load_spec(path))) == [comparison.name for comparison in report.comparisons]


def test_the_wrong_config_is_wrong_only_in_row_3(configs):
    problem = build_problem(load_spec(configs / "digits_mlp.yaml"))
    ours = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    report = report_on(configs / WRONG[0])
    weight, bias = report.comparisons
    np.testing.assert_array_equal(np.argwhere(weight.wrong), [[3, k] for k in range(50)])
    np.testing.assert_array_equal(np.argwhere(bias.wrong), [[3]])
    delta = ours.delta.copy()
    delta[:, 3] = ours.dL_da[:, 3]
    np.testing.assert_allclose(weight.analytic, delta.T @ ours.dz_dw, rtol=1e-12)


@pytest.mark.parametrize("name", LITERALLY)
def test_unit_and_literal_differences_agree(name, configs):
    """Large tensors are sampled; benchmarks/differences.py checks every entry of every config."""
    problem = build_problem(load_spec(configs / f"{name}.yaml"))
    reference = UnitDifferences(problem.objective, SCHEMES["adaptive"])
    units = reference.estimate(problem.checked)
    sampled = {name: np.zeros(e.value.shape, dtype=bool) for name, e in units.items()}
    for mask in sampled.values():
        mask.flat[:: max(1, mask.size // 40)] = True
    units = reference.refine(units, sampled)
    literal = LiteralDifferences(problem.objective, SCHEMES["adaptive"])
    for name, estimate in units.items():
        which = np.flatnonzero(sampled[name])
        other = literal.at(name, which)
        gap = np.abs(estimate.value.ravel()[which] - other.value)
        allowed = 3 * (estimate.error.ravel()[which] + other.error) + 1e-12 * np.abs(other.value)
        known = np.isfinite(allowed)
        assert (gap[known] <= allowed[known]).all(), name
        assert known.mean() > 0.9, name


SAID = {
    "wrong_gradient.yaml": "In unit 3 of layer output, the derivative of sigmoid is missing.",
    "wrong_conv.yaml": "In layer hidden2, δ is passed down through a wrongly rotated kernel",
    "wrong_lstm.yaml": "In layer lstm1, the gradient does not flow back through the product with the state",
    "code/book_trap.yaml": "The loss averages over the 10 outputs, but the gradient does not.",
}


@pytest.mark.parametrize(("config", "sentence"), SAID.items())
def test_the_wrong_configs_get_a_diagnosis(config, sentence, configs):
    diagnosis = report_on(configs / config).diagnosis
    assert diagnosis is not None
    (cause,) = diagnosis.answers[0].causes
    assert cause.sentence.startswith(sentence)


def test_the_text_is_the_page_of_alice():
    """Letters and spaces of the page, 16 to a line; y is the next letter of each."""
    page = re.sub("[^a-z]+", " ", (DATA / "alice.txt").read_text(encoding="ascii").lower()).strip()
    letters = " " + string.ascii_lowercase
    arrays = np.load(DATA / "alice.npz")
    said = ["".join(letters[i] for i in arrays[name].ravel()) for name in ("x", "y")]
    assert arrays["x"].shape == (80, 16)
    assert [page[start : start + len(said[0])] for start in (0, 1)] == said


def test_right_configs_get_no_diagnosis(configs):
    assert report_on(configs / "output_layer.yaml").diagnosis is None
