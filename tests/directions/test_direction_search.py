"""In code checked along random directions, wrong entries are named and right ones never blamed."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest

from gradcheck_cli import Verdict, WrongGradientError, check, check_gradients, load_spec

NET = """
    import numpy as np

    rng = np.random.default_rng({seed})
    x, y = rng.normal(size=(12, 15)), rng.normal(size=(12, 4))
    parameters = {{
        "w1": rng.normal(0, 0.4, (40, 15)), "b1": rng.normal(0, 0.4, 40),
        "w2": rng.normal(0, 0.4, (4, 40)), "b2": rng.normal(0, 0.4, 4),
    }}

    def plant(g):
        {plant}

    def f(p, *_):
        p = {{name: value.astype(np.{dtype}) for name, value in p.items()}}
        z = x.astype(np.{dtype}) @ p["w1"].T + p["b1"]
        a, slope = {activation}
        off = a @ p["w2"].T + p["b2"] - y.astype(np.{dtype})
        d2 = off / 6
        d1 = (d2 @ p["w2"]) * slope
        g = {{"w1": d1.T @ x.astype(np.{dtype}), "b1": d1.sum(axis=0), "w2": d2.T @ a, "b2": d2.sum(axis=0)}}
        plant(g)
        return (off * off).sum(axis=1) / 12, g
"""
TANH = "np.tanh(z), 1 - np.tanh(z) ** 2"
RELU = "np.maximum(z, 0), (z > 0).astype(z.dtype)"


def report_of(tmp_path, plant="pass", seed=0, activation=TANH, dtype="float64", check_too="", draw=0):
    words = {"seed": seed, "plant": plant, "activation": activation, "dtype": dtype}
    (tmp_path / "net.py").write_text(dedent(NET).format(**words))
    how = f"check: {{fast: true, seed: {draw}{check_too}}}"
    (tmp_path / "net.yaml").write_text(f"gradients: {{python: net.py:f}}\n{how}\n")
    return check(load_spec(tmp_path / "net.yaml"))


def wrong_of(report):
    return {c.name: np.argwhere(c.wrong).tolist() for c in report.comparisons if c.wrong.any()}


def places(report):
    return {c.name: c.place for c in report.comparisons if c.place}


@pytest.mark.parametrize("activation", [TANH, RELU])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_gradients_are_never_blamed(tmp_path, activation, dtype):
    for seed in range(15):
        report = report_of(tmp_path, seed=seed, activation=activation, dtype=dtype, draw=seed)
        assert report.wrong == report.suspect == 0
        assert dtype == "float32" or report.verdict is Verdict.AGREES


def test_all_that_agrees_is_counted_as_projected(tmp_path):
    report = report_of(tmp_path)
    assert report.differences == "directions"
    assert report.projected == report.agree == report.entries == 40 * 15 + 40 + 4 * 40 + 4
    assert all(len(c.projected.directions) == 3 for c in report.comparisons)
    assert 1e-6 <= report.resolution.median < 1e-3


@pytest.mark.parametrize("activation", [TANH, RELU])
@pytest.mark.parametrize("seed", range(8))
def test_a_single_entry_is_named_exactly(tmp_path, seed, activation):
    draw = np.random.default_rng(seed)
    at = [int(draw.integers(4)), int(draw.integers(40))]
    report = report_of(tmp_path, f'g["w2"][{at[0]}, {at[1]}] += 1e-3', seed, activation, draw=seed)
    assert wrong_of(report) == {"w2": [at]}
    assert report.exit_code == 1
    assert report.unresolved == 0


def test_several_entries_in_several_tensors_are_named_exactly(tmp_path):
    plant = 'g["w1"][3, 7] *= 1.01; g["w1"][9, 0] *= -1; g["w1"][30, 14] = 0; g["b1"][5] *= 1.01'
    report = report_of(tmp_path, plant)
    assert wrong_of(report) == {"w1": [[3, 7], [9, 0], [30, 14]], "b1": [[5]]}


def test_two_errors_that_cancel_in_some_directions_are_both_named(tmp_path):
    for draw in range(6):
        report = report_of(tmp_path, 'g["w1"][3, 7] += 0.01; g["w1"][9, 0] += 0.01', draw=draw)
        assert wrong_of(report) == {"w1": [[3, 7], [9, 0]]}


@pytest.mark.parametrize(
    ("plant", "place"),
    [
        ('g["w1"][[3, 7]] *= 1.01', "rows 3 and 7"),
        ('g["w1"][3] = 0', "row 3"),
        ('g["w1"][:, 5] *= -1', "column 5"),
        ('g["w1"][:, [2, 5, 11]] *= 1.01', "columns 2, 5 and 11"),
        ('g["w1"] *= 2', "everything"),
        ('g["w1"] *= 0', "everything"),
        ('g["b1"] *= 1.001', "everything"),
        ('g["b2"] *= 1.001', "everything"),
    ],
)
def test_wholly_wrong_parts_are_named_as_a_whole(tmp_path, plant, place):
    report = report_of(tmp_path, plant)
    name = plant[3:5]
    assert places(report) == {name: place}
    assert report.verdict is Verdict.WRONG
    assert list(wrong_of(report)) == [name]
    (tensor,) = (c for c in report.comparisons if c.name == name)
    assert not (tensor.wrong & ~np.isfinite(tensor.error)).any()


def test_entries_scattered_all_over_are_wrong_and_never_pass(tmp_path):
    plant = 'g["w1"][np.random.default_rng(0).random((40, 15)) < 0.3] *= 1.1'
    report = report_of(tmp_path, plant)
    (tensor,) = (c for c in report.comparisons if c.name == "w1")
    assert report.verdict is Verdict.WRONG
    assert tensor.projected.disagrees
    assert not tensor.covered.any()


def test_a_row_and_a_single_entry(tmp_path):
    report = report_of(tmp_path, 'g["w1"][3] *= 1.01; g["w1"][20, 4] *= 1.01')
    (tensor,) = (c for c in report.comparisons if c.name == "w1")
    assert (tensor.wrong | tensor.suspect)[3].all()
    assert tensor.wrong[20, 4]
    assert np.count_nonzero(tensor.wrong | tensor.suspect) == 16


def test_numbers_that_are_not_finite_are_wrong_and_hide_nothing(tmp_path):
    report = report_of(tmp_path, 'g["w1"][3, 4] = np.nan; g["w1"][8, 8] *= 1.01')
    assert wrong_of(report) == {"w1": [[3, 4], [8, 8]]}


@pytest.mark.parametrize("trifle", [5e-7, 1e-7, 1e-8, 3e-9, 1e-9, 1e-10, 1e-11])
def test_small_errors_within_rtol_everywhere_are_excused(tmp_path, trifle):
    for draw in range(3):
        report = report_of(tmp_path, f'g["w1"] *= 1 + {trifle}', draw=draw)
        assert report.verdict is Verdict.AGREES
        assert report.wrong == report.suspect == 0


@pytest.mark.parametrize("more", [1e-5, 1e-4, 1e-3])
def test_errors_beyond_rtol_everywhere_are_not_excused(tmp_path, more):
    for draw in range(3):
        report = report_of(tmp_path, f'g["w1"] *= 1 + {more}', draw=draw)
        assert report.verdict is Verdict.WRONG
        assert more < 1e-4 or places(report) == {"w1": "everything"}


def test_an_uninformative_direction_proves_nothing(tmp_path):
    """The noise of this loss drowns the gradient."""
    text = dedent(NET).format(seed=0, plant="pass", activation=TANH, dtype="float64")
    text = text.replace("(off * off).sum(axis=1) / 12", "(off * off).sum(axis=1) / 12 + 1e13")
    (tmp_path / "net.py").write_text(text)
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\ncheck: {fast: true}\n")
    report = check(load_spec(tmp_path / "net.yaml"))
    assert report.verdict is Verdict.UNRESOLVED
    assert report.wrong == report.projected == 0


def test_the_seed_decides_everything(tmp_path):
    one, same, other = (report_of(tmp_path, draw=draw) for draw in (1, 1, 2))
    told = [[c.projected.directions for c in report.comparisons] for report in (one, same, other)]
    assert told[0] == told[1] != told[2]


def test_literal_wins_over_fast(tmp_path):
    report = report_of(tmp_path, check_too=", differences: literal, parameters: b*")
    assert report.differences == "literal"
    assert report.projected == 0


KINKED = """
    import numpy as np

    rng = np.random.default_rng({seed})
    factors, power = rng.normal(size={size}), rng.normal(size={size})
    w = rng.normal(size={size}) + 2.0 * rng.choice([-1.0, 1.0], {size})
    kinks = rng.choice({size}, {on_kinks}, replace=False)
    w[kinks] = 0.0
    smooth = np.delete(np.arange({size}), kinks)
    parameters = {{"w": w}}

    def f(p, *_):
        w = p["w"]
        g = factors * (w > 0) + 0.3 * power * np.cos(w)
        {plant}
        return factors * np.maximum(w, 0) + 0.3 * power * np.sin(w), {{"w": g}}
"""


def kinked(tmp_path, size, on_kinks, plant="pass", seed=0):
    (tmp_path / "net.py").write_text(
        dedent(KINKED).format(size=size, on_kinks=on_kinks, plant=plant, seed=seed)
    )
    (tmp_path / "net.yaml").write_text(
        f"gradients: {{python: net.py:f}}\ncheck: {{fast: true, seed: {seed}}}\n"
    )
    return check(load_spec(tmp_path / "net.yaml"))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("size", "on_kinks"), [(1, 1), (4, 4), (40, 6), (3000, 1), (3000, 9)])
def test_entries_on_kinks_do_not_leave_a_tensor_undecided(tmp_path, size, on_kinks, seed):
    report = kinked(tmp_path, size, on_kinks, seed=seed)
    assert report.verdict is Verdict.AGREES
    assert report.projected >= size - on_kinks - 4


@pytest.mark.parametrize("plant", ["g[kinks[-1]] += 3.0", "g[smooth[7]] *= 1.01"])
@pytest.mark.parametrize("on_kinks", [1, 9])
def test_a_mistake_in_a_tensor_with_entries_on_kinks_is_found(tmp_path, on_kinks, plant):
    report = kinked(tmp_path, 3000, on_kinks, plant)
    (found,) = wrong_of(report)["w"]
    right = kinked(tmp_path, 3000, on_kinks)
    off = report.comparisons[0].analytic - right.comparisons[0].analytic
    assert np.flatnonzero(off).tolist() == found


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.AGREES), (1.01, Verdict.UNRESOLVED)])
def test_directions_tell_something_if_rounding_could_be_large_but_is_not(factor, verdict):
    """The measured rounding of this gradient is large, but at the point itself there is none."""
    at = np.random.default_rng(1).normal(size=300)

    def function(w):
        return np.sin(w), factor * np.cos(w) + 0.03 * np.sin(1e11 * (w - at))

    report = check_gradients(function, at, fast=True, allow_undecided=True)
    assert report.verdict is verdict


def test_an_entry_on_a_kink_is_judged_like_any_other(tmp_path):
    text = """
    import numpy as np

    parameters = {"w": np.array([[0.0, 1.0, -1.0, 2.0]])}

    def f(p, *_):
        return np.maximum(p["w"], 0).ravel() * [3, 1, 1, 1], {"w": (p["w"] > 0) * [[3.0, 1, 1, 1]]}
    """
    (tmp_path / "net.py").write_text(dedent(text))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\ncheck: {fast: true}\n")
    assert check(load_spec(tmp_path / "net.yaml")).wrong == 0


@pytest.mark.parametrize("tiny", [1e-9, 1e-13])
@pytest.mark.parametrize("factor", [1.0, 1.5, 1.001])
def test_a_huge_entry_does_not_hide_the_others(tiny, factor):
    """The gradient of log p at a tiny p is right, and larger than all others by many orders of magnitude."""
    p = np.random.default_rng(3).uniform(0.1, 1.0, 300)
    p[5] = tiny

    def logs(p):
        return -np.log(p), np.where(p < 1e-6, -1.0, -factor) / p

    report = check_gradients(logs, p, fast=True) if factor == 1.0 else None
    if report is None:
        with pytest.raises(WrongGradientError):
            check_gradients(logs, p, fast=True)
    else:
        assert report.verdict is Verdict.AGREES
        assert report.resolution.median < 1e-3
