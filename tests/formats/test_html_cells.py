"""The cells of a heat map: every entry, or the worst of each block, encoded compactly."""

from __future__ import annotations

import math
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import EVERY_KIND, HALF_KNOWN, NOT_FINITE, UNKNOWN, WRONG, ZERO, comparison
from unhurried import unhurried

from gradcheck_cli.formats.html import cells as module
from gradcheck_cli.formats.html.cells import PAGE, STATES, cells_of, most_cells
from gradcheck_cli.projected import Projected


def read(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(b64decode(text), dtype)


def states_of(of) -> list[str]:
    return [STATES[i] for i in read(cells_of(of, PAGE).state, "u1")]


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: f"{kind.name} {kind.verdict}")
def test_every_entry_is_a_cell_with_all_the_digits_of_its_values(kind):
    cells = cells_of(kind, PAGE)
    assert (cells.rows * cells.columns, cells.block, cells.entry) == (kind.entries, (1, 1), "")
    np.testing.assert_array_equal(read(cells.analytic, "<f8"), kind.analytic.ravel())
    np.testing.assert_array_equal(read(cells.numerical, "<f8"), kind.numerical.ravel())
    np.testing.assert_array_equal(read(cells.error, "<f4"), kind.error.ravel().astype("f4"))
    told = np.where(kind.telling, kind.relative_error, np.nan).ravel().astype("f4")
    np.testing.assert_array_equal(read(cells.relative, "<f4"), told)


def test_a_cell_shows_the_verdict_of_its_entry():
    assert states_of(WRONG) == ["agrees", "wrong", "wrong"]
    assert states_of(NOT_FINITE) == ["wrong", "wrong", "agrees"]
    assert states_of(UNKNOWN) == ["unresolved", "unresolved"]
    assert states_of(HALF_KNOWN) == ["agrees", "unresolved", "agrees"]
    assert states_of(ZERO) == ["agrees, 0 on both sides"] * 2


def test_entries_not_checked_individually_say_so():
    at_large = comparison("w", [1.0, 2.0, 3.0], [math.nan, math.nan, 4.0], [math.inf, math.inf, 1e-9])
    covered, suspect = np.array([True, False, False]), np.array([False, True, False])
    assert states_of(replace(at_large, projected=Projected(covered, suspect, 1e-8))) == [
        "agrees along random directions",
        "unresolved, but in a wrong row, column or tensor",
        "wrong",
    ]


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((), (1, 1)), ((7,), (1, 7)), ((3, 4), (3, 4)), ((8, 3, 5, 5), (8, 75)), ((50, 784), (50, 784))],
)
def test_a_vector_is_a_strip_and_of_many_axes_the_last_lie_side_by_side(shape, grid):
    cells = cells_of(comparison("w", np.ones(shape), np.ones(shape)), PAGE)
    assert (cells.rows, cells.columns) == grid
    assert cells.shape == shape


@unhurried
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), most=st.integers(1, 200), seed=st.integers(0, 99))
def test_each_cell_of_a_large_tensor_is_the_worst_of_its_block(rows, columns, most, seed):
    rng = np.random.default_rng(seed)
    analytic = rng.normal(size=(rows, columns))
    large = comparison("w", analytic, analytic * (1 + rng.choice([1e-9, 1e-3], analytic.shape, p=[0.9, 0.1])))
    cells = cells_of(large, most)
    height, width = cells.block
    assert cells.rows * cells.columns <= most
    assert (cells.rows, cells.columns) == (math.ceil(rows / height), math.ceil(columns / width))
    worst = read(cells.relative, "<f4").reshape(cells.rows, cells.columns)
    for row in range(cells.rows):
        for column in range(cells.columns):
            block = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert worst[row, column] == pytest.approx(large.relative_error[block].max(), rel=2e-3)
    if cells.entry:
        entries = read(cells.entry, "<u4")
        np.testing.assert_array_equal(read(cells.analytic, "<f8"), analytic.ravel()[entries])


@unhurried
@given(st.lists(st.integers(0, 10 * PAGE), min_size=1, max_size=30))
def test_the_cells_of_all_tensors_together_stay_within_a_page(sizes):
    most = most_cells(sizes)
    shown = sum(min(size, most) for size in sizes)
    assert shown <= PAGE
    assert shown == sum(sizes) or shown > PAGE - len(sizes)


def test_a_run_of_very_many_tensors_has_a_cell_for_each(monkeypatch):
    monkeypatch.setattr(module, "PAGE", 5)
    assert most_cells([4] * 20) == 1
