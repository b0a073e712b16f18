from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from reports import RIGHT, UNKNOWN, WRONG, comparison, report
from rich.color import Color

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.heatmap import BRIGHT, COLORS, PAPER, SHADES, SMALLEST, TALLEST
from gradcheck_cli.projected import Projected
from gradcheck_cli.report import Outcome, Report, Run

SHOWN = "".join(shade for _, shade, _ in SHADES) + "?"
SHOWN_IN_ASCII = "".join(ascii for _, _, ascii in SHADES) + "?"


def drawing(whole: Report, **view) -> list[str]:
    """Return what is printed in addition to the report without pictures."""
    plain, drawn = (
        render("table", Run((Outcome("net.yaml", whole),)), View(**view, heatmap=heatmap))
        for heatmap in (False, True)
    )
    assert drawn.startswith(plain)
    return drawn.removeprefix(plain).splitlines()


def rows_of(lines: list[str]) -> list[str]:
    """Return the pictures' lines, between their edges."""
    return [match[1] for line in lines if (match := re.match(r" *\d+ \|(.*)\|", line))]


def off(relative_errors) -> Comparison:
    """Return a tensor with these relative errors."""
    numerical = np.ones(np.shape(relative_errors))
    return comparison("w", numerical * (1.0 - np.array(relative_errors)), numerical, 1e-18)


BAD_ROW = np.full((10, 50), 1e-13)
BAD_ROW[3] = 0.75


@pytest.mark.parametrize("width", [80, 200, None])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_bad_row_jumps_out_without_any_colour(width, ascii):
    lines = drawing(report(off(BAD_ROW)), width=width, ascii=ascii)
    rows = rows_of(lines)
    assert [set(row) for row in rows] == [{" "}] * 3 + [{"@" if ascii else "█"}] + [{" "}] * 6
    assert {len(row) for row in rows} == {100 if width == 200 else 50}
    mark = "!" if ascii else "✗"
    assert [line.split("|")[0].strip() for line in lines if line.endswith(f" {mark}")] == ["3"]
    assert all(line.isascii() for line in lines) or not ascii


def test_the_numbers_of_rows_and_columns_stand_at_the_edges():
    lines = drawing(report(off(BAD_ROW)), width=80)
    assert lines[:4] == [
        "",
        "  w, 10 × 50",
        "       0         10        20        30        40",
        "    0 |" + " " * 50 + "|",
    ]


@pytest.mark.parametrize(
    ("shape", "at"), [((784, 50), (400, 20)), ((50, 784), (20, 700)), ((3, 5000), (1, 4321))]
)
@pytest.mark.parametrize("width", [40, 80, 200, None])
@pytest.mark.parametrize("color", [False, True])
def test_however_far_it_is_shrunk_no_bad_entry_is_lost(shape, at, width, color):
    errors = np.full(shape, 1e-13)
    errors[at] = 0.5
    lines = drawing(report(off(errors)), width=width, color=color, palette="256")
    axis, *picture = [line for line in map(plain, lines) if re.match(" {4,}\\d", line)]
    assert len(picture) <= TALLEST
    assert len(axis) <= max(map(len, picture))
    assert max(map(len, picture)) <= (width or 100)
    assert sum(line.endswith(" ✗") for line in picture) == 1
    assert "each cell is the worst of" in " ".join(map(plain, lines[1:3]))
    if color:
        assert sum(line.count("48;5;196") + line.count("38;5;196") for line in lines[:-2]) == 1
    else:
        (row,) = [row for row in rows_of(lines) if "█" in row]
        assert row.count("█") == (2 if len(row) == 2 * shape[1] else 1)


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", line)


@pytest.mark.parametrize(
    ("error", "shade"),
    [(0.0, " "), (1e-13, " "), (1e-11, "·"), (1e-8, "░"), (2e-6, "▒"), (1e-2, "▓"), (0.5, "█"), (2.0, "█")],
)
def test_each_shade_has_its_errors(error, shade):
    assert set(rows_of(drawing(report(off([[error, 1.0]]))))[0][:2]) == {shade}


def test_a_gradient_that_is_not_a_number_is_the_worst():
    (row,) = rows_of(drawing(report(comparison("w", [[math.nan, 1.0]], [[1.0, 1.0]]))))
    assert row == "██  "


def test_unknown_entries_are_not_errors_unless_their_cell_has_one():
    (row,) = rows_of(drawing(report(UNKNOWN)))
    assert row == "????"
    errors, numerical, bar = np.ones((1, 200)), np.ones((1, 200)), np.full((1, 200), 1e-18)
    numerical[0, :3], bar[0, :3] = math.nan, math.inf
    errors[0, 2:4] = 0.5
    (row,) = rows_of(drawing(report(comparison("w", errors, numerical, bar)), width=80))
    assert row[:2] == "?█"


@pytest.mark.parametrize("rows", [1, 100])
def test_unknown_entries_are_grey(rows):
    nothing = comparison("w", np.ones((rows, 4)), np.full((rows, 4), math.nan), math.inf)
    lines = drawing(report(nothing), color=True, palette="256")[:-1]
    assert any("48;5;244m" in line for line in lines)
    assert ("?" in "".join(map(plain, lines))) == (rows == 1)


def test_entries_indistinguishable_from_zero_are_blank():
    noise = replace(comparison("w", [[1e-20, 1.0]], [[2e-20, 2.0]], 1e-15), rounding=np.full((1, 2), 1e-15))
    assert rows_of(drawing(report(noise))) == ["  ██"]


def test_wrong_tensors_have_pictures_or_else_all_have():
    def titles(*tensors: Comparison) -> list[str]:
        lines = drawing(report(*tensors))
        return [line.strip() for before, line in pairwise(lines[:-1]) if before == ""]

    assert titles(RIGHT, WRONG, UNKNOWN) == ["output.bias, 3", "hidden1.bias, 2"]
    assert titles(RIGHT, off([[0.0]])) == ["output.weight, 1 × 3", "w, 1 × 1"]


def test_without_checked_entries_there_is_nothing_to_draw():
    nothing = np.full((2, 2), np.nan)
    projected = Projected(np.ones((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool), 1e-6)
    tensor = replace(comparison("w", np.ones((2, 2)), nothing, math.inf), projected=projected)
    assert drawing(replace(report(tensor), differences="directions")) == []


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4), (2, 1, 3, 3)])
def test_tensors_of_any_dimension_can_be_drawn(shape):
    rows = rows_of(drawing(report(off(np.full(shape, 0.5)))))
    assert len(rows) == (shape[0] if len(shape) > 1 else 1)
    assert "".join(rows) == "█" * 2 * max(1, math.prod(shape))


def test_in_colour_each_power_of_ten_has_its_own():
    powers = np.arange(SMALLEST, 1)
    errors = 10.0 ** powers[None] * 1.001
    lines = drawing(report(off(errors)), color=True, palette="256")
    (line,) = [line for line in lines if plain(line).endswith(" ✗")]
    assert {int(color) for color in re.findall(r"48;5;(\d+)m", line)} == set(COLORS) - {PAPER}


def brightness(number: int) -> float:
    """Return the brightness of one of xterm's 256 colours, from 0 to 1."""
    return float(np.dot(Color.from_ansi(number).get_truecolor(), (0.299, 0.587, 0.114))) / 255


def test_agreeing_entries_have_a_calm_colour_on_black_and_on_white():
    good = COLORS[: BRIGHT - SMALLEST]
    assert set(good[:6]) == {PAPER}
    assert all(0.3 < brightness(number) < 0.7 for number in good if number != PAPER)


@pytest.mark.parametrize("rows", [10, 100])
def test_an_entry_without_a_colour_is_no_glyph_in_the_colour_of_the_text(rows):
    errors = np.full((rows, 6), 1e-15)
    errors[rows // 2, 3] = 0.5
    for line in drawing(report(off(errors)), color=True, palette="256")[3:-2]:
        for glyph in re.findall(r"(?:^|m)[^\x1b]*?([▀▄])", line):
            assert re.search(rf"38;5;\d+(?:;48;5;\d+)?m{glyph}", line)


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("palette", ["standard", "256"])
def test_the_legend_shows_what_the_pictures_are_made_of(palette, ascii):
    tall = np.full((100, 4), 1e-8)
    lines = drawing(report(off(tall)), color=True, palette=palette, ascii=ascii)
    said = ["rel", "error", "agree", "1e-16", "1e-6", "1", "wrong", "?", "unknown"]
    assert plain(lines[-1]).split() == said
    assert ("▀" in "".join(lines)) == (not ascii)
    assert ("48;5;" in lines[-1]) == (palette == "256")
    legend = drawing(report(off(tall)), ascii=ascii)[-1]
    assert set(SHOWN_IN_ASCII if ascii else SHOWN) <= set(legend)
    assert len(legend) <= 80


def test_quiet_is_still_a_line_for_every_spec():
    run = Run((Outcome("net.yaml", report(WRONG)),))
    assert render("table", run, View(level=-1, heatmap=True)) == render("table", run, View(level=-1))
