from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from mistakes import MISTAKES
from random_networks import FAMILIES, problem_or_none

from gradcheck_cli import InputError, Verdict, load_spec
from gradcheck_cli.numerical.schemes import SCHEMES, plain_schemes
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.sweep.curve import Branch
from gradcheck_cli.sweep.sweep import STEPS, Sweep, sweep

SMOOTH = ("digits_mlp.yaml", "output_layer.yaml", "deep_tanh_cross_entropy.yaml")


@pytest.fixture(scope="module")
def swept(configs):
    """Return the sweep of an example spec."""
    known: dict[str, Sweep] = {}

    def of(name: str) -> Sweep:
        if name not in known:
            known[name] = sweep(load_spec(configs / name))
        return known[name]

    return of


def with_gradients(spec: Spec, tmp_path: Path, gradients, **rest) -> Spec:
    np.savez(tmp_path / "g.npz", **gradients)
    raw = spec.model_dump(by_alias=True, exclude_unset=True)
    return Spec.model_validate({**raw, "gradients": {"file": tmp_path / "g.npz"}, **rest})


# --- right gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", SMOOTH)
@pytest.mark.parametrize("name", plain_schemes())
def test_every_scheme_has_its_order_where_the_gradient_is_right(config, name, swept):
    (curve,) = [curve for curve in swept(config).curves if curve.scheme == name]
    assert curve.order == pytest.approx(SCHEMES[name].order, abs=0.2)
    assert (curve.flat, curve.verdict) == (None, Verdict.AGREES)
    assert swept(config).exit_code == 0


def test_the_steps_reach_from_one_to_nearly_epsilon(swept):
    for curve in swept("output_layer.yaml").curves:
        assert [point.step for point in curve.points] == list(STEPS)
    assert STEPS[0] == 1.0
    assert STEPS[-1] < 1e-15


def test_noise_rises_as_the_inverse_of_the_step(swept):
    for curve in swept("digits_mlp.yaml").curves:
        if SCHEMES[curve.scheme].cancels:
            points = [point for point in curve.on(Branch.NOISE) if point.step < 2.0**-28]
            slope, _ = np.polyfit(np.log([p.step for p in points]), np.log([p.error for p in points]), 1)
            assert slope == pytest.approx(-1, abs=0.1)


def test_extrapolation_is_better_than_any_step_of_a_scheme_that_cancels(swept):
    of = swept("digits_mlp.yaml")
    best = [curve.best.error for curve in of.curves if SCHEMES[curve.scheme].cancels]
    assert of.adaptive.error < min(best)


def test_steps_over_kinks_are_marked(swept):
    curves = {curve.scheme: curve for curve in swept("relu_huber.yaml").curves}
    kinks = {point.step for point in curves["central"].on(Branch.KINK)}
    assert 1.0 in kinks
    assert max(STEPS[20:]) < min(kinks)
    assert all(point.crossed for point in curves["central"].on(Branch.KINK))
    assert curves["forward"].verdict is Verdict.AGREES
    assert curves["central"].verdict is Verdict.UNRESOLVED  # exact wherever no kink is crossed


def test_a_gradient_in_float32_stays_at_its_own_rounding_and_agrees():
    of = sweep(spec_of((4, "tanh"), (3, "sigmoid"), dtype="float32"))
    (central,) = [curve for curve in of.curves if curve.scheme == "central"]
    assert central.flat is not None
    assert 1e-9 < central.flat < central.allowed
    assert of.verdict is Verdict.AGREES


def test_where_one_scheme_is_exact_another_decides():
    of = sweep(spec_of((3, "identity"), loss="mse"))
    verdicts = {curve.scheme: curve.verdict for curve in of.curves}
    assert verdicts["central"] is Verdict.UNRESOLVED
    assert verdicts["forward"] is Verdict.AGREES
    assert of.verdict is Verdict.AGREES


def test_where_every_scheme_is_exact_the_order_is_open():
    of = sweep(spec_of((3, "identity"), loss="hinge"))
    assert of.report.verdict is Verdict.AGREES
    assert (of.verdict, of.exit_code) == (Verdict.UNRESOLVED, 3)


def test_a_small_gradient_near_an_optimum_converges(swept):
    raw = FAMILIES["at an optimum"](1007)
    of = sweep(Spec.model_validate(raw))
    assert max(point.error for curve in of.curves for point in curve.points) > 10
    assert {curve.verdict for curve in of.curves} == {Verdict.AGREES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_gradient_is_never_called_wrong(family):
    raw = FAMILIES[family](0)
    if problem_or_none(raw) is not None:
        of = sweep(Spec.model_validate(raw))
        assert of.verdict is not Verdict.WRONG
        assert Verdict.WRONG not in [curve.verdict for curve in of.curves]


def test_any_convention_on_a_kink_is_not_called_wrong(tmp_path):
    """The gradient uses relu'(0) = 1 for a unit that is on its kink in every sample."""
    spec = spec_of((2, "relu"), (2, "sigmoid"), parameters={"init": "zeros"}, samples=4)
    of = sweep(spec)
    assert of.report.verdict is not Verdict.WRONG
    assert of.verdict is of.report.verdict or of.verdict is Verdict.UNRESOLVED


# --- wrong ones --------------------------------------------------------------------------------------------


def test_the_error_of_a_wrong_gradient_does_not_fall(swept):
    of = swept("wrong_gradient.yaml")
    assert (of.verdict, of.exit_code) == (Verdict.WRONG, 1)
    for curve in of.curves:
        assert curve.verdict is Verdict.WRONG
        assert curve.flat == pytest.approx(of.adaptive.error, rel=0.01)


@pytest.mark.usefixtures("undiagnosed")
@pytest.mark.parametrize("name", MISTAKES)
def test_gradients_that_the_check_calls_wrong_never_pass(name, tmp_path):
    problem = problem_of((4, "tanh"), (3, "sigmoid"), penalty={"l2": 0.1})
    right = right_gradients(problem)
    mistaken = MISTAKES[name](problem, right)
    spec = spec_of((4, "tanh"), (3, "sigmoid"), penalty={"l2": 0.1})
    of = sweep(with_gradients(spec, tmp_path, mistaken))
    changed = any(not np.allclose(mistaken[tensor], right[tensor], rtol=1e-4) for tensor in right)
    assert of.verdict is (Verdict.WRONG if changed else Verdict.AGREES)
    assert of.report.verdict is of.verdict


def test_a_mistake_too_small_to_show_is_still_wrong(tmp_path):
    problem = problem_of((4, "tanh"), (3, "sigmoid"))
    gradients = right_gradients(problem)
    least = np.unravel_index(np.abs(gradients["hidden1.weight"]).argmin(), (4, 4))
    gradients["hidden1.weight"][least] *= 1.001
    spec = spec_of((4, "tanh"), (3, "sigmoid"))
    of = sweep(with_gradients(spec, tmp_path, gradients), ["forward"])
    assert of.exit_code == 1


def test_a_gradient_that_is_not_finite_has_no_curve_and_is_wrong(tmp_path):
    gradients = right_gradients(problem_of((4, "tanh"), (3, "sigmoid")))
    gradients["output.bias"][0] = np.nan
    of = sweep(with_gradients(spec_of((4, "tanh"), (3, "sigmoid")), tmp_path, gradients))
    assert of.exit_code == 1
    assert all(curve.best is None for curve in of.curves)


def test_zeros_on_both_sides_decide_nothing(tmp_path):
    spec = spec_of((2, "relu"), (2, "relu"), parameters={"init": "zeros"})
    assert sweep(spec).exit_code == 3


# --- what is swept -----------------------------------------------------------------------------------------


def test_schemes_are_swept_in_the_order_of_their_table_each_once(configs):
    of = sweep(load_spec(configs / "output_layer.yaml"), ["central", "forward", "central"])
    assert [curve.scheme for curve in of.curves] == ["forward", "central"]


def test_only_the_checked_parameters_are_swept(configs):
    spec = load_spec(configs / "digits_mlp.yaml")
    only = spec.model_copy(update={"check": spec.check.model_copy(update={"parameters": ("hidden1.bias",)})})
    of = sweep(only)
    assert (of.swept, of.report.entries) == (50, 50)


def test_literal_differences_are_swept_literally(configs):
    spec = load_spec(configs / "output_layer.yaml")
    literal = spec.model_copy(update={"check": spec.check.model_copy(update={"differences": "literal"})})
    units, entries = sweep(spec), sweep(literal)
    assert entries.report.differences == "literal"
    for one, other in zip(units.curves, entries.curves, strict=True):
        assert one.order == pytest.approx(other.order, abs=0.15)


def test_code_is_swept_at_sampled_entries_and_each_tensors_worst(configs):
    of = sweep(load_spec(configs / "code" / "book_trap.yaml"))
    assert of.swept <= 64 < of.report.entries
    assert [curve.scheme for curve in of.curves] == [
        name for name in plain_schemes() if SCHEMES[name].cancels
    ]
    assert {curve.verdict for curve in of.curves} == {Verdict.WRONG}


def test_a_right_function_has_its_orders(configs):
    of = sweep(load_spec(configs / "code" / "softmax_regression.yaml"))
    assert {curve.verdict for curve in of.curves} == {Verdict.AGREES}


def test_one_wrong_entry_among_many_in_code_is_swept(tmp_path):
    (tmp_path / "net.py").write_text(
        "import numpy as np\n"
        "def parameters():\n"
        "    return {'w': np.linspace(-1, 1, 500)}\n"
        "def f(p, x, y):\n"
        "    g = np.cos(p['w'])\n"
        "    g[321] *= 1.5\n"
        "    return np.sin(p['w']), {'w': g}\n"
    )
    spec = Spec.model_validate({"gradients": {"python": "net.py:f"}}, context={"folder": tmp_path})
    of = sweep(spec)
    assert of.swept < 500
    assert {curve.verdict for curve in of.curves} == {Verdict.WRONG}


def test_an_empty_parameter_is_accepted(tmp_path):
    (tmp_path / "net.py").write_text(
        "import numpy as np\n"
        "def parameters():\n"
        "    return {'w': np.linspace(-1, 1, 5), 'none': np.zeros((0, 3))}\n"
        "def f(p, x, y):\n"
        "    return np.sin(p['w']), {'w': np.cos(p['w']), 'none': np.zeros((0, 3))}\n"
    )
    spec = Spec.model_validate({"gradients": {"python": "net.py:f"}}, context={"folder": tmp_path})
    of = sweep(spec)
    assert (of.swept, of.verdict) == (5, of.report.verdict)


def test_complex_steps_are_refused_for_code(configs):
    with pytest.raises(InputError, match="'complex' cannot be used with your own code"):
        sweep(load_spec(configs / "code" / "softmax_regression.yaml"), ["complex"])


def test_progress_is_announced_and_reached(configs):
    told = {"expected": 0, "done": 0}

    class Told:
        def expect(self, evaluations: int) -> None:
            told["expected"] += evaluations

        def advance(self, evaluations: int) -> None:
            told["done"] += evaluations

        def doing(self, what: str) -> None: ...

        def spread_over(self, workers: int) -> None: ...

    sweep(load_spec(configs / "output_layer.yaml"), progress=Told())
    assert told["expected"] == told["done"] > 0  # the announced total is reached
