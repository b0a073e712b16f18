"""User code that is known only by its values: right is never called wrong, and wrong never passes."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gradcheck_cli import Verdict, check, load_spec

REGRESSION = """
    import numpy as np

    rng = np.random.default_rng({seed})
    x, y = rng.normal(size=({samples}, 5)), rng.normal(size=({samples}, 1))
    x[0] *= {first}
    parameters = {{"w": np.ones((1, 5)), "b": np.zeros(1)}}

    def f(p, *_):
        z = x @ p["w"].T + p["b"]
        off = np.maximum(z, 0) - y
        delta = 2 * off * (z > 0)
        losses = (off * off).sum(axis=1) + {offset}
        return {loss}, {{"w": delta.T @ x, "b": {factor} * delta.sum(axis=0)}}
"""

FLOAT32 = """
    import numpy as np

    f32 = np.float32
    rng = np.random.default_rng({seed})
    x, y = rng.normal(size=(16, 5)).astype(f32), rng.normal(size=(16, 1)).astype(f32)
    parameters = {{
        "w1": rng.normal(size=(8, 5)).astype(f32), "b1": rng.normal(size=8).astype(f32),
        "w2": rng.normal(size=(1, 8)).astype(f32), "b2": np.zeros(1, f32),
    }}

    def f(p, *_):
        p = {{name: value.astype(f32) for name, value in p.items()}}
        z = x @ p["w1"].T + p["b1"]
        a, slope = {activation}
        off = a @ p["w2"].T + p["b2"] - y
        d2 = 2 * off / f32(16)
        d1 = {factor} * (d2 @ p["w2"]) * slope
        losses = (off * off).sum(axis=1) / f32(16)
        return {loss}, {{"w1": d1.T @ x, "b1": d1.sum(axis=0), "w2": d2.T @ a, "b2": d2.sum(axis=0)}}
"""

TERMS = ("losses", "losses.sum()")


def report_of(tmp_path, text, **words):
    (tmp_path / "net.py").write_text(dedent(text).format(**words))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    return check(load_spec(tmp_path / "net.yaml"))


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize(("samples", "seed"), [(16, 0), (100, 1), (1000, 2), (1000, 3)])
def test_the_kinks_of_many_samples_are_not_blamed_on_the_gradient(tmp_path, samples, seed, loss):
    for offset in (0, 1e9):
        words = {"samples": samples, "seed": seed, "loss": loss, "factor": 1, "first": 1, "offset": offset}
        assert report_of(tmp_path, REGRESSION, **words).wrong == 0


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize("factor", [1.01, 1.001, -1])
def test_a_sample_on_a_kink_hides_no_mistake(tmp_path, loss, factor):
    """Where the gradient jumps, its noise is still only rounding."""
    words = {"samples": 100, "seed": 0, "loss": loss, "first": 0, "offset": 0}
    assert report_of(tmp_path, REGRESSION, factor=1, **words).verdict is Verdict.AGREES
    assert report_of(tmp_path, REGRESSION, factor=factor, **words).verdict is not Verdict.AGREES
    everywhere = {**words, "first": 1}
    assert report_of(tmp_path, REGRESSION, factor=factor, **everywhere).verdict is Verdict.WRONG


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize(
    "activation", ["(np.tanh(z), 1 - np.tanh(z) ** 2)", "(np.maximum(z, f32(0)), (z > 0).astype(f32))"]
)
def test_code_in_float32_is_judged_by_what_it_can_know(tmp_path, loss, activation):
    for seed in range(3):
        words = {"seed": seed, "loss": loss, "activation": activation}
        assert report_of(tmp_path, FLOAT32, factor="f32(1)", **words).wrong == 0
        assert report_of(tmp_path, FLOAT32, factor="f32(1.2)", **words).verdict is Verdict.WRONG


HERE = """
    import numpy as np

    {setup}

    def f(p, *_):
        w = p["w"]
        return {loss}, {{"w": {gradient}}}
"""


@pytest.mark.parametrize("factor", [5.0, -4.0])
def test_a_slope_far_beyond_both_sides_of_a_kink_is_wrong(tmp_path, factor):
    words = {"setup": 'parameters = {"w": np.array([0.0, 1.0, -2.0])}', "loss": "np.abs(w)"}
    right = report_of(tmp_path, HERE, gradient="np.sign(w)", **words)
    assert right.verdict is Verdict.AGREES
    wrong = report_of(tmp_path, HERE, gradient=f"np.where(w == 0, {factor}, np.sign(w))", **words)
    assert wrong.verdict is Verdict.WRONG
    assert wrong.worst(1)[0][1].index == (0,)


@pytest.mark.parametrize("factor", ["1.001", "1.00001"])
def test_round_numbers_are_not_mistaken_for_a_narrow_type(tmp_path, factor):
    words = {"setup": 'parameters = {"w": np.array([1.0, 2.0, -3.0])}', "loss": "(w ** 4).sum()"}
    assert report_of(tmp_path, HERE, gradient="4 * w ** 3", **words).verdict is Verdict.AGREES
    assert report_of(tmp_path, HERE, gradient=f"{factor} * 4 * w ** 3", **words).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("setup", "loss", "gradient"),
    [
        (
            'x = np.random.default_rng(0).normal(size=(8, 3)) * 1e6; parameters = {"w": np.zeros(3)}',
            "(np.tanh(x @ w) - 1) ** 2",
            "x.T @ (2 * (np.tanh(x @ w) - 1) * (1 - np.tanh(x @ w) ** 2))",
        ),
        ('parameters = {"w": np.linspace(0.1, 1, 5)}', "np.sin(1e7 * w)", "1e7 * np.cos(1e7 * w)"),
    ],
    ids=["features of 1e6", "a fast sine"],
)
def test_steeper_than_the_coarse_steps_is_not_wrong(tmp_path, setup, loss, gradient):
    assert report_of(tmp_path, HERE, setup=setup, loss=loss, gradient=gradient).wrong == 0


def test_small_differences_of_large_numbers_are_known_as_such(tmp_path):
    """At such confidence, neither q − y nor log(1 + eᶻ) − z has many digits left."""
    setup = (
        "w0, rng = np.array([30.0, -40.0, 20.0]), np.random.default_rng(0); x = rng.normal(size=(20, 3)); "
        'x = x[np.abs(x @ w0) > 25]; y = 1.0 * (x @ w0 > 0); parameters = {"w": w0}'
    )
    loss = "np.logaddexp(0, x @ w) - y * (x @ w)"
    gradient = "x.T @ (1 / (1 + np.exp(-(x @ w))) - y)"
    assert report_of(tmp_path, HERE, setup=setup, loss=loss, gradient=gradient).wrong == 0


@pytest.mark.parametrize("loss", ["(w ** 2)", "(w ** 2).sum()"])
def test_a_parameter_that_the_loss_ignores_decides_nothing(tmp_path, loss):
    text = f"""
        import numpy as np

        parameters = {{"w": np.linspace(0.3, 1, 4), "unused": np.linspace(0.1, 2, 3)}}

        def f(p, *_):
            w = p["w"]
            return {loss}, {{"w": 2 * w, "unused": np.zeros(3)}}
    """
    (tmp_path / "net.py").write_text(dedent(text))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.verdict is Verdict.AGREES
    assert report.zero == 3
