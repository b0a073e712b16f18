"""Tables fit narrow and plain terminals, and no number is cut."""

from __future__ import annotations

import re

import numpy as np
import pytest
from reports import RIGHT, UNKNOWN, WRONG, ZERO, comparison, report
from text_tables import NUMBER, styled_as, table_of, text_of

from gradcheck_cli.formats.table import TENSOR_COLUMNS

LARGE = [
    comparison("hidden10.weight", [[-1.23456789e-10, 2.0]], [[-1.23456788e-10, 2.0]], 1e-21),
    comparison("output.weight", np.full((50, 784), -123.456789), np.full((50, 784), -123.456789)),
    comparison("output.bias", [-0.0001234567891], [0.0001234567891], 1e-19),
]


@pytest.mark.parametrize("width", range(40, 150, 5))
def test_a_narrow_table_fits_and_cuts_no_number(width):
    narrow = text_of(report(*LARGE), width=width, show=2).splitlines()
    wide = set(NUMBER.findall(text_of(report(*LARGE), show=2)))
    assert max(map(len, narrow)) <= width
    for line in narrow:
        assert set(NUMBER.findall(line)) <= wide


def test_the_wider_the_terminal_the_more_columns_and_never_a_number_without_its_reference():
    headings = [table_of(text_of(report(*LARGE), width=width))[0] for width in range(40, 150)]
    columns = [{c.heading for c in TENSOR_COLUMNS if c.heading in heading} for heading in headings]
    assert columns[0] == {"tensor", "verdict", "rel error"}
    assert columns[-1] == {column.heading for column in TENSOR_COLUMNS}
    for shown in columns:
        assert ("analytic" in shown) == ("numerical ± error" in shown)
        assert "worst entry" in shown or "analytic" not in shown
    assert "worst entry" in columns[80 - 40]


def test_off_a_terminal_a_table_is_as_wide_as_it_needs_to_be():
    names = [f"{'long' * 40}{i}.weight" for i in range(2)]
    lines = table_of(text_of(report(*(comparison(name, [1.0], [1.0]) for name in names))))
    assert [line.split()[0] for line in lines[1:]] == names


def test_a_long_name_is_folded_and_not_cut():
    name = "a_very_long_name_that_somebody_gave_to_a_layer.weight"
    lines = table_of(text_of(report(comparison(name, [1.0], [2.0])), width=40))
    assert max(map(len, lines)) <= 40
    assert "1 wrong" in lines[1]
    assert "".join(line.split()[0] for line in lines[1:]) == name


def test_no_number_is_cut_even_where_nothing_fits():
    lines = table_of(text_of(report(comparison("output.bias", [1.0] * 1234, [2.0] * 1234)), width=12))
    assert "1,234 wrong" in lines[1]


def test_sentences_wrap_between_words():
    lines = text_of(
        report(RIGHT, WRONG, unexercised=("of many words, " * 9,)), width=40, level=1
    ).splitlines()
    assert max(map(len, lines)) <= 40
    assert {"output.bias;", "3e-07;", "tensor"} <= {word for line in lines for word in line.split()}


@pytest.mark.parametrize("width", [None, 40, 80])
def test_an_ascii_terminal_gets_ascii_in_columns_that_fit(width):
    text = text_of(report(RIGHT, WRONG, UNKNOWN), width=width, ascii=True, show=2, level=1)
    assert text.isascii()
    assert "?" not in text.replace("? unresolved", "")  # every glyph has an ASCII spelling
    if width:
        assert max(map(len, text.splitlines())) <= width
    else:
        assert "  numerical +- error  verdict\n" in text
        assert "  6e-07 +- 1e-12  2 wrong\n" in text


def test_color_follows_the_verdict_and_only_if_wanted():
    text = text_of(report(RIGHT, WRONG, ZERO, UNKNOWN), color=True)
    assert styled_as(text, "agrees") == "32"
    assert styled_as(text, "2 wrong") == "1;31"
    assert styled_as(text, "agrees, all 0") == "33"
    assert styled_as(text, "2 unresolved") == "33"
    assert "\x1b" not in text_of(report(RIGHT, WRONG, ZERO, UNKNOWN))


def test_color_changes_nothing_but_color():
    colored = text_of(report(RIGHT, WRONG), color=True, width=80, show=2)
    plain = text_of(report(RIGHT, WRONG), width=80, show=2)
    stripped = re.sub(r"\x1b\[[\d;]*m", "", colored)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


@pytest.mark.parametrize("term", ["dumb", "xterm", ""])
def test_the_view_alone_decides_and_not_the_environment(term, monkeypatch):
    expected = text_of(report(RIGHT, WRONG), color=True, width=100)
    for name, value in {"TERM": term, "COLUMNS": "30", "NO_COLOR": "1", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert text_of(report(RIGHT, WRONG), color=True, width=100) == expected
