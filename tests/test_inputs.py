"""Checks of ∂L/∂x, and of other gradients between the layers that a file may hold."""

from __future__ import annotations

import json

import numpy as np
import pytest
from build import right_gradients, spec_of
from by_hand import Case, Pass
from judged import Judge
from processes import run
from random_networks import FAMILIES, problem_or_none, random_convolutions
from test_any_graph import NETWORKS

from gradcheck_cli.checker import check
from gradcheck_cli.dump import dump
from gradcheck_cli.errors import InputError
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.mutate.mutate import mutate
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.shifted import INPUTS, values_of
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.verdict import Verdict

NUMBERS = [name for name, (layers, _) in NETWORKS.items() if "embedding" not in layers[0]]
DENSE = ((5, "tanh"), (4, "relu"), {"units": 3, "batch_norm": True, "activation": "sigmoid"})


def spec_on(name, seed=0, **rest):
    layers, inputs = NETWORKS[name]
    how = {"inputs": True, **rest.pop("check", {})}
    return spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=5, seed=seed, check=how, **rest)


def dense(seed=0, **check):
    return spec_of(*DENSE, inputs=6, samples=5, seed=seed, check=check)


def of_values(spec):
    """Return the gradients of every value of a chain of dense layers, computed by hand."""
    by_hand = Pass(Case.of(spec))
    found = {INPUTS: by_hand.delta[0] @ by_hand.w(0)}
    for i, layer in enumerate(by_hand.layers):
        found |= {f"{layer.name}.dL_da": by_hand.dL_da[i], f"{layer.name}.delta": by_hand.delta[i]}
        if layer.batch_norm is not None:
            found[f"{layer.name}.dL_dy"] = by_hand.dL_dy[i]
    return found


def given(spec, tmp_path, names=None, **values):
    """Return the spec with a file of right gradients of its parameters, and these arrays."""
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    np.savez(tmp_path / "g.npz", **{**right, **values})
    source = {"file": tmp_path / "g.npz", **({} if names is None else {"names": names})}
    return Spec.model_validate({**spec.model_dump(by_alias=True, exclude_unset=True), "gradients": source})


def comparison_of(report, name):
    return next(c for c in report.comparisons if c.name == name)


# --- right gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NUMBERS)
def test_the_right_gradient_of_x_agrees_and_stands_last(name, seed, differences, dtype):
    spec = spec_on(name, seed, dtype=dtype, check={"differences": differences})
    report = check(spec)
    assert report.verdict is Verdict.AGREES
    assert report.comparisons[-1].name == INPUTS
    assert report.comparisons[-1].shape == build_problem(spec).x.shape


@pytest.mark.parametrize("scheme", ["complex", "central", "five-point", "forward"])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_scheme_calls_the_right_gradient_of_x_wrong(name, scheme):
    assert check(spec_on(name, 1, check={"scheme": scheme})).verdict is not Verdict.WRONG


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_gradient_of_x_is_never_called_wrong_in_random_networks(family):
    decided = []
    for seed in range(10):
        raw = FAMILIES[family](seed)
        if problem_or_none(raw) is not None:
            only_x = {"inputs": True, "parameters": "output.bias"}  # test_checker.py checks the others
            report = check(Spec.model_validate({**raw, "check": only_x}))
            assert report.verdict is not Verdict.WRONG, seed
            decided.append(comparison_of(report, INPUTS).verdict is Verdict.AGREES)
    assert np.mean(decided) >= 0.9


def test_the_right_gradient_of_x_is_never_called_wrong_in_random_convolutions():
    for seed in range(5):
        for dtype in ("float64", "float32"):
            raw = random_convolutions(seed, dtype)
            report = check(Spec.model_validate({**raw, "check": {"inputs": True}}))
            assert comparison_of(report, INPUTS).verdict is Verdict.AGREES, (seed, dtype)


@pytest.mark.parametrize("seed", range(5))
def test_the_differences_are_the_gradient_by_hand(seed):
    spec = dense(seed, inputs=True)
    found, right = comparison_of(check(spec), INPUTS), of_values(spec)[INPUTS]
    assert (np.abs(found.numerical - right) <= found.bar + 1e-12).all()
    np.testing.assert_allclose(found.analytic, right, rtol=1e-9, atol=1e-15)


def test_the_other_tensors_are_judged_as_without_it():
    with_x, without = (check(spec_on(NUMBERS[0], 2, check={"inputs": inputs})) for inputs in (True, False))
    for one, other in zip(with_x.comparisons[:-1], without.comparisons, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.analytic, other.analytic)
        np.testing.assert_allclose(one.rounding, other.rounding, rtol=1e-12)


def test_no_penalty_applies_to_x():
    penalty = {"l1": 0.3, "l2": 0.2, "biases": True}
    spec = spec_of((3, "tanh"), (2, "identity"), penalty=penalty, check={"inputs": True})
    report = check(spec)
    assert comparison_of(report, INPUTS).verdict is Verdict.AGREES
    np.testing.assert_allclose(comparison_of(report, INPUTS).analytic, of_values(spec)[INPUTS], atol=1e-14)


def test_an_x_that_puts_units_on_a_kink_follows_a_convention_and_is_noted():
    layers = [{"units": 4, "activation": "relu"}, {"units": 2}]
    x = [[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]]
    spec = Spec.model_validate(
        {
            "network": {"inputs": 3, "layers": layers, "loss": "mse"},
            "parameters": {"init": "normal", "seed": 1},
            "data": {"x": x, "y": [[1.0, 0.0], [0.0, 1.0]]},
            "check": {"inputs": True},
        }
    )
    report = check(spec)
    assert report.verdict is Verdict.AGREES
    assert any("hidden1" in kink for kink in report.kinks)


# --- wrong gradients ---------------------------------------------------------------------------------------


def test_every_single_wrong_entry_of_x_is_found():
    spec = dense(3, inputs=True)
    right = of_values(spec)[INPUTS]
    problem = build_problem(spec)
    judge, parameters = Judge(spec, problem), right_gradients(problem)
    for index in np.ndindex(right.shape):
        wrong = right.copy()
        wrong[index] *= 1 + 1e-4
        report = judge.report({**parameters, INPUTS: wrong})
        (found,) = (c for c in report.comparisons if c.verdict is Verdict.WRONG)
        assert found.name == INPUTS
        assert np.argwhere(found.wrong).tolist() == [list(index)]


SPOILT = {
    "twice as large": (lambda right: 2 * right, "twice"),
    "the sum in place of the mean": (lambda right: 5 * right, "averages over the 5 samples"),
    "negative": (lambda right: -right, "sign"),
    "zero": (np.zeros_like, "0 throughout"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_the_diagnosis_of_a_wrong_gradient_of_x_speaks_of_it_alone(name, tmp_path):
    spoil, said = SPOILT[name]
    spec = dense(1, inputs=True)
    diagnosis = check(given(spec, tmp_path, **{INPUTS: spoil(of_values(spec)[INPUTS])})).diagnosis
    causes = [cause.sentence for answer in diagnosis.answers for cause in answer.causes]
    assert all(f"gradient of {INPUTS}" in sentence for sentence in causes)
    assert said in causes[0]


def test_weights_left_out_on_the_way_down_are_named(tmp_path):
    spec = spec_of((4, "tanh"), (2, "identity"), inputs=4, check={"inputs": True})
    by_hand = Pass(Case.of(spec))
    for wrong, said in [
        (by_hand.delta[0], "passed down without the weights"),
        (by_hand.delta[0] @ by_hand.w(0).T, "passed down through wᵀ, not w"),
        (by_hand.dL_da[0] @ by_hand.w(0), "∂L/∂a is passed to the layer below instead of δ"),
    ]:
        diagnosis = check(given(spec, tmp_path, **{INPUTS: wrong})).diagnosis
        causes = (cause.sentence for answer in diagnosis.answers for cause in answer.causes)
        assert said in " ".join([*causes, *diagnosis.observations])


def test_a_wrong_parameter_is_diagnosed_as_without_x(tmp_path):
    spec = dense(2)
    wrong = {"hidden1.bias": np.zeros(5)}
    without = check(given(spec, tmp_path, **wrong)).diagnosis
    with_x = check(given(spec, tmp_path, **wrong, **{INPUTS: of_values(spec)[INPUTS]})).diagnosis
    assert with_x == without


# --- values between the layers -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_right_gradients_of_all_values_agree(seed, tmp_path):
    spec = dense(seed)
    report = check(given(spec, tmp_path, **of_values(spec)))
    assert report.verdict is Verdict.AGREES
    parameters = build_problem(spec).network.shapes
    assert [c.name for c in report.comparisons][: len(parameters)] == list(parameters)
    assert {c.name for c in report.comparisons} == {*parameters, *of_values(spec)}


@pytest.mark.parametrize("name", of_values(dense()))
def test_a_wrong_gradient_of_any_value_is_found(name, tmp_path):
    spec = dense(4)
    values = of_values(spec)
    wrong = values[name].copy()
    wrong.flat[int(np.abs(wrong).argmax())] *= 1 + 1e-4
    report = check(given(spec, tmp_path, **values | {name: wrong}))
    assert [c.name for c in report.comparisons if c.verdict is Verdict.WRONG] == [name]
    assert report.diagnosis is not None


def test_only_values_that_the_patterns_select_are_checked(tmp_path):
    spec = dense(0, parameters="hidden2.*")
    values = {name: np.full_like(value, np.nan) for name, value in of_values(spec).items()}
    names = [c.name for c in check(given(spec, tmp_path, **values)).comparisons]
    assert names == ["hidden2.weight", "hidden2.bias", "hidden2.dL_da", "hidden2.delta"]


def test_factors_that_are_not_gradients_of_a_value_are_not_checked(tmp_path):
    spec = dense(0)
    report = check(
        given(spec, tmp_path, **{"hidden1.dz_dw": np.zeros((5, 6)), "hidden1.da_dz": np.ones((5, 5))})
    )
    assert {c.name for c in report.comparisons} == set(build_problem(spec).network.shapes)
    assert report.verdict is Verdict.AGREES


def test_a_chain_names_its_values_and_any_other_graph_only_x():
    assert set(values_of(build_problem(dense()).network)) == set(of_values(dense()))
    assert set(values_of(build_problem(spec_on(NUMBERS[1])).network)) == {INPUTS}


# --- where it comes from -----------------------------------------------------------------------------------


def test_the_file_may_name_the_gradient_of_x_in_its_own_way(tmp_path):
    spec = dense(0, inputs=True)
    source = given(spec, tmp_path, {"dx": INPUTS}, dx=of_values(spec)[INPUTS])
    assert comparison_of(check(source), INPUTS).verdict is Verdict.AGREES


def test_a_file_without_the_gradient_of_x_is_refused_if_it_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="input"):
        check(given(dense(0, inputs=True), tmp_path))


def test_tokens_have_no_gradient():
    layers, inputs = NETWORKS["a block on tokens"]
    with pytest.raises(InputError) as caught:
        build_problem(spec_of(*layers, inputs=inputs, loss="cross_entropy", check={"inputs": True}))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("check", "inputs")
    assert "tokens" in complaint.message


FUNCTION = """
def loss_and_gradients(parameters, x, y):
    w, b = parameters["output.weight"], parameters["output.bias"]
    apart = x @ w.T + b - y
    n = len(x)
    loss = 0.5 * (apart ** 2).sum(axis=1) / n
    delta = apart / n
    return loss, {"output.weight": delta.T @ x, "output.bias": delta.sum(axis=0), "input": FACTOR * delta @ w}
"""
SPEC = """
network: {inputs: 3, layers: [{units: 2}], loss: {name: mse, scale: 0.5}}
data:
  x: [[1.0, 2.0, -1.0], [0.5, 0.0, 3.0], [-2.0, 1.0, 1.0], [0.1, 0.2, 0.3]]
  y: [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [2.0, -1.0]]
gradients: {python: "f.py:loss_and_gradients"}
check: {inputs: true}
"""


@pytest.mark.parametrize(("factor", "code"), [("1.0", 0), ("0.5", 1)])
def test_a_function_may_return_the_gradient_of_x(factor, code, tmp_path):
    (tmp_path / "f.py").write_text(FUNCTION.replace("FACTOR", factor))
    (tmp_path / "spec.yaml").write_text(SPEC)
    result = run("check", "spec.yaml", "--format", "json", cwd=tmp_path)
    assert result.returncode == code, result.stderr
    tensors = json.loads(result.stdout)["specs"][0]["tensors"]
    assert tensors[-1]["name"] == INPUTS
    assert [t["name"] for t in tensors if t["verdict"] == "wrong"] == [INPUTS] * code


def test_a_vectorized_function_is_refused(tmp_path):
    (tmp_path / "f.py").write_text(FUNCTION.replace("FACTOR", "1.0"))
    (tmp_path / "spec.yaml").write_text(SPEC.replace('gradients"}', 'gradients", vectorized: true}'))
    result = run("check", "spec.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert "'inputs' does not work with a vectorized function" in result.stderr


# --- the other commands ------------------------------------------------------------------------------------


def test_the_option_overrides_the_spec(tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "network: {inputs: 3, layers: [{units: 2}], loss: mse}\ndata: {synthetic: normal, samples: 4}\n"
    )
    with_x, without = (
        json.loads(run("check", "spec.yaml", option, "--format", "json", cwd=tmp_path).stdout)
        for option in ("--inputs", "--no-inputs")
    )
    assert [t["name"] for t in with_x["specs"][0]["tensors"]][-1] == INPUTS
    assert INPUTS not in [t["name"] for t in without["specs"][0]["tensors"]]


def test_dump_writes_the_differences_of_x():
    spec = dense(0, inputs=True)
    arrays, right = dump(spec), of_values(spec)[INPUTS]
    np.testing.assert_allclose(arrays["numerical.input"], right, rtol=1e-8, atol=1e-12)
    assert arrays["error.input"].shape == right.shape
    assert "numerical.input" not in dump(dense(0))


def test_mutate_and_explain_leave_x_out():
    spec = dense(0, inputs=True)
    assert len(explain(spec).layers) == 3
    mutation = mutate(spec, sample=5)
    assert (mutation.right, mutation.planned) == (Verdict.AGREES, 5)


def test_an_estimate_of_x_costs_one_number_for_each_number_of_x():
    """If no step couples the samples, only the sample of a number is evaluated."""
    spec = spec_of((4, "tanh"), (2, "identity"), check={"inputs": True})
    objective = network_subject(spec, build_problem(spec)).objective
    assert not objective.literally(INPUTS)
    ((site, _),) = objective.uses(INPUTS)
    assert objective.site_shape(site) == (4, 5)
