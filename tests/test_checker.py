from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from build import spec_of
from judged import Evaluations, Judge
from mistakes import MISTAKES, conventions, effect
from pydantic import ValidationError
from random_networks import FAMILIES, problem_or_none
from shares import first

from gradcheck_cli import InputError, Spec, UntrustedReferenceError, Verdict, check, load_spec
from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.factors import Rows
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.rounding import gradient_rounding
from gradcheck_cli.numerical.objective import Use
from gradcheck_cli.numerical.reference import UnitDifferences
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject import load


def report_of(raw):
    """Return the report, or None if the random network has no finite loss."""
    return None if problem_or_none(raw) is None else check(Spec.model_validate(raw))


@pytest.mark.parametrize("seed", first(3, range(5)))
@pytest.mark.parametrize("family", FAMILIES)
def test_right_gradients_are_never_called_wrong(family, seed):
    report = report_of(FAMILIES[family](seed))
    assert report is None or report.wrong == 0, report.worst(3)
    assert family != "plain" or report.verdict is Verdict.AGREES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("half", first(1, range(2)))
def test_mistakes_planted_in_random_networks_never_pass(family, half):
    """The exceptions change nothing, no more than rounding does, or are a convention at a kink.

    Each family takes the other half first, so that every run plants every mistake.
    """
    raw = FAMILIES[family](1)
    problem = problem_or_none(raw)
    if problem is None:
        pytest.skip("its loss is not finite")
    at = (problem.network, problem.parameters, problem.x, problem.target)
    right, usual = gradients(*at), conventions(problem)
    bounds = gradient_rounding(*at, Arithmetic.of(problem.dtype))
    judge = Judge(Spec.model_validate(raw), problem)
    start = (half + list(FAMILIES).index(family)) % 2
    for name, mistake in islice(MISTAKES.items(), start, None, 2):
        wrong = {key: np.asarray(value, problem.dtype) for key, value in mistake(problem, right).items()}
        off = {key: np.abs(wrong[key] - right[key]) for key in right}
        if not effect(wrong, right) > 1e-5 or all((off[key] <= 6 * bounds[key]).all() for key in right):
            continue
        if any(all(np.allclose(each[key], wrong[key], 1e-6, 0) for key in right) for each in usual):
            continue
        assert judge.report(wrong).verdict is not Verdict.AGREES, (name, effect(wrong, right))


TARGETS = {
    "rounded": lambda output, rng: np.round(output),
    "fitted": lambda output, rng: output.copy(),
    "one off": lambda output, rng: output + np.sign(rng.normal(size=output.shape)),
}


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e9])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "identity", "elu"])
@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_losses_that_hide_their_rounding_are_not_blamed_on_the_gradient(
    activation, loss, targets, offset, monkeypatch
):
    """Saturated, fitted and distant outputs have a small loss that is made of large numbers."""
    seed = len(activation + loss + targets) % 2
    rng = np.random.default_rng(seed)
    scaled = {"init": "xavier", "scale": 20.0 if offset == 0 else 1.0, "seed": seed, "bias": "same"}
    spec = spec_of((4, "tanh"), (3, activation), loss=loss, parameters=scaled, samples=1 + seed)
    problem = build_problem(spec)
    parameters = {**problem.parameters, "output.bias": problem.parameters["output.bias"] + offset}
    problem = replace(problem, parameters=parameters)
    problem = replace(problem, target=TARGETS[targets](problem.objective.activity.output, rng))
    monkeypatch.setattr(load, "build_problem", lambda _, fixed=problem: fixed)
    report = check(spec)  # this also excludes an UntrustedReferenceError
    assert report.wrong == 0, report.worst(2)


def test_errors_that_all_point_the_same_way_add_up():
    """The truncation error of a plain scheme is not noise: it does not average out over many samples."""
    x = [[0.01 * (-1) ** n * (1 + n % 7)] for n in range(3000)]
    y = [(-1.0) ** n for n in range(3000)]
    spec = spec_of(
        (1, "identity"), inputs=1, data={"x": x, "y": y}, parameters={"init": "zeros"},
        check={"scheme": "forward", "step": 1e-4},
    )  # fmt: skip
    assert check(spec).wrong == 0


def with_gradients(spec: Spec, values, tmp_path) -> Spec:
    np.savez(tmp_path / "gradients.npz", **values)
    source = {"file": tmp_path / "gradients.npz"}
    return Spec.model_validate({**spec.model_dump(by_alias=True, exclude_unset=True), "gradients": source})


NETWORKS = {
    "batch norm, penalty": spec_of(
        {"units": 5, "activation": "relu", "batch_norm": True},
        (4, "leaky_relu"),
        (3, "identity"),
        samples=7,
        seed=5,
        penalty={"l2": 0.01},
    ),
    "sigmoid mse": spec_of((5, "sigmoid"), (3, "sigmoid"), samples=7),
    "deep tanh cross-entropy": spec_of(
        (5, "tanh"), (4, "tanh"), (4, "tanh"), (3, "tanh"), loss="cross_entropy", samples=6, seed=2
    ),
    "relu huber": spec_of((6, "relu"), (4, "relu"), (3, "elu"), loss="huber", samples=8, seed=3),
    "softmax bce": spec_of((5, "gelu"), (3, "softmax"), loss="bce_with_logits", samples=4, seed=4),
}

JUDGES = {name: Judge(spec) for name, spec in NETWORKS.items()}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("network", NETWORKS)
def test_planted_mistakes_are_called_wrong(network, mistake):
    problem = build_problem(NETWORKS[network])
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    wrong = MISTAKES[mistake](problem, right)
    if not effect(wrong, right) > 1e-5:
        pytest.skip("this network has no such part")
    report = JUDGES[network].report(wrong)
    assert report.verdict is Verdict.WRONG
    for comparison in report.comparisons:
        if np.abs(right[comparison.name]).max() < 1e-12:
            continue  # the bias below a batch normalisation has a gradient of 0
        differs = effect({"": wrong[comparison.name]}, {"": right[comparison.name]}) > 1e-5
        assert (comparison.verdict is Verdict.WRONG) == differs, comparison.name


@pytest.mark.parametrize("network", NETWORKS)
def test_the_right_gradient_from_a_file_agrees(network, tmp_path):
    spec = NETWORKS[network]
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    assert check(with_gradients(spec, right, tmp_path)).passed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_of_a_coarser_type_are_judged_by_their_own_precision(dtype, tmp_path):
    spec = NETWORKS["sigmoid mse"]
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    coarse = {name: value.astype(dtype) for name, value in right.items()}
    assert check(with_gradients(spec, coarse, tmp_path)).passed
    halved = {name: (0.5 * value).astype(dtype) for name, value in right.items()}
    assert not check(with_gradients(spec, halved, tmp_path)).passed
    off = {name: (1.5 * value).astype(dtype) for name, value in right.items()}
    assert check(with_gradients(spec, off, tmp_path)).verdict is Verdict.WRONG


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_wrong(value, tmp_path):
    spec = NETWORKS["sigmoid mse"]
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    right["hidden1.weight"][2, 1] = value
    report = check(with_gradients(spec, right, tmp_path))
    assert report.verdict is Verdict.WRONG
    assert report.wrong == 1
    assert report.worst(1)[0][0] == "hidden1.weight"
    assert report.worst(1)[0][1].index == (2, 1)


def test_only_entries_that_do_not_agree_at_once_take_the_whole_ladder(tmp_path):
    spec = NETWORKS["deep tanh cross-entropy"]
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    wrong = MISTAKES["one entry"](problem, right)
    few, some, all_of_them = Evaluations(), Evaluations(), Evaluations()
    assert check(spec, few).wrong == 0
    assert check(with_gradients(spec, wrong, tmp_path), some).wrong == 1
    units = UnitDifferences(problem.objective, SCHEMES["adaptive"], progress=all_of_them)
    units.estimate_by_whole_ladder(list(right))
    assert few.count < some.count < all_of_them.count / 2


@pytest.mark.parametrize("scheme", ["forward", "backward", "central", "five-point", "complex"])
@pytest.mark.parametrize("differences", ["units", "literal"])
def test_every_scheme_finds_a_right_gradient_right(scheme, differences):
    """One-sided differences have half the digits, so rounding may shift an entry by more than 1e-6."""
    how = {"scheme": scheme, "differences": differences, "rtol": 1e-5 if SCHEMES[scheme].order == 1 else 1e-6}
    report = check(spec_of((4, "tanh"), (3, "sigmoid"), check=how))
    assert report.passed
    assert report.wrong == 0


@pytest.mark.parametrize("step", [1.0, 1e-1, 1e-3, 1e-12, 1e-320])
@pytest.mark.parametrize("scheme", ["forward", "central", "five-point"])
def test_a_badly_chosen_step_is_never_blamed_on_the_gradient(scheme, step):
    report = check(spec_of((4, "tanh"), (3, "sigmoid"), check={"scheme": scheme, "step": step}))
    assert report.wrong == 0


def test_a_useless_step_is_refused():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        spec_of((4, "tanh"), (3, "sigmoid"), check={"step": 1e6})


def test_an_overflow_that_the_loss_hides_is_refused():
    """The hinge loss of NaN is 0, so the loss is finite but no gradient is."""
    with pytest.raises(InputError, match="overflows: pre-activations of layer 'hidden1'"):
        check(
            spec_of(
                (3, "tanh"),
                (3, "softmax"),
                loss="hinge",
                parameters={"init": "normal", "scale": 1e150},
                data={"synthetic": "normal", "scale": 1e-160},
                dtype="float32",
            )
        )


def test_reference_that_contradicts_itself_is_not_trusted(monkeypatch):
    """If z were not affine in w with factor a, unit differences would be wrong; the witness shows that."""
    from gradcheck_cli.moving.objective import NetworkObjective

    honest = NetworkObjective.uses

    def dishonest(self, name):
        ((site, factors),) = honest(self, name)
        if isinstance(factors, Rows):
            factors = replace(factors, rows=1.001 * factors.rows)
        return (Use(site, factors),)

    monkeypatch.setattr(NetworkObjective, "uses", dishonest)
    with pytest.raises(UntrustedReferenceError, match=r"output\.weight\[\d, \d\] contradict each other"):
        check(spec_of((4, "tanh"), (3, "sigmoid")))


def test_literal_differences_need_no_witness():
    report = check(spec_of((4, "tanh"), (3, "sigmoid"), check={"differences": "literal"}))
    assert report.passed
    assert report.witness is None
    assert check(spec_of((4, "tanh"), (3, "sigmoid"))).witness.entries == 3 * 4 + 3


def test_only_the_requested_parameters_are_checked():
    report = check(spec_of((4, "tanh"), (3, "sigmoid"), check={"parameters": ["*.bias", "output.*"]}))
    assert [c.name for c in report.comparisons] == ["output.weight", "output.bias", "hidden1.bias"]


def test_a_network_of_zeros_does_not_pass():
    report = check(spec_of((4, "relu"), (3, "relu"), parameters={"init": "zeros"}))
    assert report.verdict is Verdict.UNRESOLVED
    assert report.exit_code == 3


@pytest.mark.parametrize("seed", first(4, range(10)))
def test_zeros_of_identical_samples_are_not_a_mistake(seed):
    """Batch normalisation reduces them to rounding errors, which a relu may or may not pass."""
    rng = np.random.default_rng(seed)
    layers = {"units": 1, "activation": "relu", "batch_norm": True}, (2, "identity")
    data = {"x": [rng.normal(size=2).tolist()] * 5, "y": [[1.0, 0.0]] * 5}
    parameters = {"init": "normal", "scale": 1.0, "seed": seed}
    spec = spec_of(*layers, inputs=2, data=data, parameters=parameters, dtype="float32")
    assert check(spec).wrong == 0


@pytest.mark.parametrize("step", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("scheme", ["forward", "central", "five-point", "complex"])
def test_a_plain_scheme_calls_nothing_wrong_without_the_default_scheme(scheme, step):
    """Three steps that are all too large for a steep function agree with each other."""
    for seed in range(4):
        steep = {"init": "normal", "scale": 30.0, "seed": seed}
        checked = {"scheme": scheme, "step": step}
        assert check(spec_of((4, "tanh"), (3, "sigmoid"), parameters=steep, check=checked)).wrong == 0


def test_a_perfect_fit_agrees(monkeypatch):
    spec = spec_of((2, "identity"), inputs=2, data={"x": [[1, 0], [0, 1]], "y": [[0.5, 1], [2, 3]]},
                   parameters={"init": "zeros"})  # fmt: skip
    problem = build_problem(spec)
    parameters = {"output.weight": np.array([[0.5, 2.0], [1.0, 3.0]]), "output.bias": np.zeros(2)}
    fitted = replace(problem, parameters=parameters)
    monkeypatch.setattr(load, "build_problem", lambda _: fitted)
    report = check(spec)
    assert report.wrong == 0
    assert report.zero == report.entries


def test_the_report_says_what_was_not_exercised(configs):
    report = check(configs / "digits_mlp.yaml")
    assert report.unexercised == ("all biases are 0: a bias left out of the forward pass would not show",)


def test_the_same_spec_gives_the_same_report_twice(configs):
    first, second = (check(load_spec(configs / "relu_huber.yaml")) for _ in range(2))
    for a, b in zip(first.comparisons, second.comparisons, strict=True):
        np.testing.assert_array_equal(a.numerical, b.numerical)
        np.testing.assert_array_equal(a.error, b.error)
    assert first.witness == second.witness


@pytest.mark.parametrize("samples", [3, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_through_a_stack_of_batch_normalisations_excuses_no_mistake(tmp_path, samples, seed):
    spec = spec_of(
        *({"units": 5, "activation": "tanh", "batch_norm": True} for _ in range(3)),
        (3, "identity"),
        loss="cross_entropy",
        samples=samples,
        seed=seed,
    )
    problem = build_problem(spec)
    at = (problem.parameters, problem.x, problem.target)
    narrow = [{n: v.astype(np.float32) for n, v in at[0].items()}, *(a.astype(np.float32) for a in at[1:])]
    right = gradients(problem.network, *narrow)
    assert check(with_gradients(spec, right, tmp_path)).wrong == 0
    largest = right["hidden1.weight"].copy()
    largest.flat[np.abs(largest).argmax()] *= 1.2
    wrong = {**right, "hidden1.weight": largest}
    assert check(with_gradients(spec, wrong, tmp_path)).verdict is Verdict.WRONG


@pytest.mark.parametrize("z", [-2.0, -3.0, -5.0, -8.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_may_be_computed_as_in_any_textbook(tmp_path, z, dtype):
    """½ z (1 + erf(z/√2)), as in torch, loses digits where erf is near −1."""
    spec = spec_of(
        (1, "gelu"), (1, "identity"), inputs=1, data={"x": [[z]], "y": [[1.0]]},
        parameters={"init": "normal", "scale": 1.0, "seed": 3},
    )  # fmt: skip
    problem = build_problem(spec)
    w = {name: value.astype(dtype).ravel()[0] for name, value in problem.parameters.items()}
    one, half, root = dtype(1), dtype(0.5), np.sqrt(dtype(2))
    y = w["hidden1.weight"] * dtype(z) + w["hidden1.bias"]
    phi = half * (one + dtype(math.erf(y / root)))
    a, slope = y * phi, phi + y * np.exp(-half * y * y) / np.sqrt(dtype(2 * np.pi))
    delta = dtype(2) * (w["output.weight"] * a + w["output.bias"] - one)
    below = delta * w["output.weight"] * slope
    mine = {"output.weight": delta * a, "output.bias": delta, "hidden1.weight": below * dtype(z)}
    mine["hidden1.bias"] = below
    shaped = {n: np.full(problem.network.shapes[n], v, dtype) for n, v in mine.items()}
    assert check(with_gradients(spec, shaped, tmp_path)).wrong == 0


@pytest.mark.parametrize("scheme", ["forward", "backward", "central", "five-point"])
@pytest.mark.parametrize("step", [1e-5, 1e-3, 3e-3, 0.02])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_scheme_with_near_and_far_points_is_right(scheme, step, loss):
    """Different code evaluates short and long steps, and must agree on the loss."""
    spec = spec_of((4, "tanh"), (3, "identity"), loss=loss, check={"scheme": scheme, "step": step})
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    for c in check(spec).comparisons:
        off = np.abs(c.numerical - right[c.name]).max()
        assert off <= 10 * step * (1 + np.abs(right[c.name]).max())
