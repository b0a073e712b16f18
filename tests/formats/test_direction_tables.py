"""Tables of tensors that were checked along random directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reports import report
from text_tables import row_of, text_of

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.projected import Projected, Projection
from gradcheck_cli.report import Report


def along(analytic, covered, suspect=False, measured=(), disagrees=False) -> Comparison:
    """Return a tensor of which only the entries `measured` were checked individually; they are half."""
    analytic = np.array(analytic, dtype=float)
    numerical, error = np.full(analytic.shape, np.nan), np.full(analytic.shape, np.inf)
    for index in measured:
        numerical[index], error[index] = 0.5 * analytic[index], 1e-12
    told = np.isfinite(error)
    masks = [np.full(analytic.shape, flag) & ~told for flag in (covered, suspect)]
    directions = (Projection(1.5, 1.5, 1e-9), Projection(2.0, 2.000001, 1e-9))
    projected = Projected(*masks, 1e-5, directions, disagrees)
    return Comparison("w", analytic, numerical, error, np.zeros(analytic.shape), 1e-6, projected=projected)


def by_directions(*comparisons: Comparison) -> Report:
    return replace(report(*comparisons), differences="directions", way="Checked along 3 random directions.")


W = [[1.0, -2.0], [4.0, 0.5], [1.0, 1.0]]


def test_tensors_that_agree_along_directions_show_the_worst_direction():
    text = text_of(by_directions(along(W, covered=True)))
    row = row_of(text, "w")
    assert "direction" in row
    assert "5.0e-07" in row
    assert row.split()[-1] == "agrees"
    assert "✓ agrees: all 6 entries, along random directions." in text
    assert "Checked along 3 random directions." in text
    blind = "errors that cancel in every direction, or a relative error below 1e-05 in a single entry"
    assert blind in text
    assert "1.0e-05 (median entry), 2.0e-05 (hardest entry)" in text


def test_the_column_detectable_is_of_the_median_entry():
    assert "1e-05" in row_of(text_of(by_directions(along(W, covered=True))), "w").split()


def test_a_single_wrong_entry_is_named():
    text = text_of(by_directions(along(W, covered=True, measured=[(1, 0)])), show=3)
    assert "1 wrong" in row_of(text, "w")
    assert "✗ wrong: 1 of 6 entries, in w; the worst, w[1, 0], is 4; finite differences give 2" in text
    assert "The worst of all 1 entry checked individually:" in text
    assert "analytic / numerical" not in text


@pytest.mark.parametrize(
    ("measured", "place", "sentence"),
    [
        ([(0, 0), (1, 0), (2, 0)], "column 0", "3 of 6 entries, in column 0 of w; "),
        ([(0, 0), (0, 1)], "row 0", "2 of 6 entries, in row 0 of w; "),
        ([(0, 0), (0, 1), (2, 0), (2, 1)], "rows 0 and 2", "4 of 6 entries, in rows 0 and 2 of w; "),
        ([(0, 0), (1, 1)], "", "2 of 6 entries, in w; "),
    ],
)
def test_whole_rows_and_columns_are_named(measured, place, sentence):
    comparison = along(W, covered=True, measured=measured)
    assert comparison.place == place
    assert sentence in text_of(by_directions(comparison))


def test_everything_is_named_everything():
    text = text_of(by_directions(along(W, covered=False, suspect=True, measured=[(0, 0), (2, 1)])))
    assert "everything wrong" in row_of(text, "w")
    assert "✗ wrong: all of w (2 of 2 sampled entries); " in text
    assert "4 more entries would be wrong, judging by the sampled ones." in text
    assert "analytic / numerical is 2 in every sampled entry of w." in text


def test_many_lines_are_counted():
    comparison = along(np.ones((30, 2)), covered=True, measured=[(i, 0) for i in range(12)])
    assert comparison.place == ""
    both = [(i, j) for i in range(12) for j in range(2)]
    assert along(np.ones((30, 2)), covered=True, measured=both).place == "12 rows"


def test_remaining_disagreement_is_reported():
    text = text_of(by_directions(along(W, covered=False, measured=[(1, 0)], disagrees=True)))
    assert "5 more entries disagree as a group along the random directions." in text


def test_directions_that_say_nothing_leave_all_unresolved():
    text = text_of(by_directions(along(W, covered=False)))
    assert "? unresolved: nothing wrong was found, but 6 of 6 entries could not be decided." in text
    assert "The random directions could not decide 6 entries." in text
    assert "detectable this way" not in text


def test_a_tensor_without_results_has_dashes():
    nothing = along(W, covered=False)
    empty = replace(nothing, projected=replace(nothing.projected, directions=()))
    assert row_of(text_of(by_directions(empty)), "w").count("–") >= 4
