"""A report displayed in a notebook, or printed by rich."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from reports import EVERY_KIND, RIGHT, WRONG, ZERO, comparison, diagnosis, report
from rich.console import Console

from gradcheck_cli import check_gradients
from gradcheck_cli.formats.words.verdicts import sentence

NASTY = "<script>alert(1)</script>\x1b[2J\n.weight"


class Page(HTMLParser):
    """Collects text, tags and attributes, and refuses tags that are not closed."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.attributes, self.open = "", set(), set(), []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def printed(shown, **options):
    console = Console(file=io.StringIO(), **options)
    console.print(shown)
    return console.file.getvalue()


@pytest.mark.parametrize("tensor", EVERY_KIND, ids=lambda c: c.name)
def test_a_notebook_shows_verdict_and_tensor_without_a_script(tensor):
    found = report(tensor)
    page = Page(found._repr_html_())
    assert sentence(found) in page.text
    assert tensor.name in page.text
    assert page.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert page.attributes == {"style"}


def test_a_notebook_shows_why_a_gradient_is_wrong():
    text = Page(report(WRONG, diagnosis=diagnosis())._repr_html_()).text
    assert "Why: the activation's derivative is missing" in text
    assert "right: δ = ∂L/∂a · a (1 − a)" in text


def test_no_name_becomes_markup():
    html = report(comparison(NASTY, [1.0], [2.0]))._repr_html_()
    assert "script" not in Page(html).tags
    assert "\x1b" not in html


def test_a_notebook_folds_what_agrees_among_many():
    right = [comparison(f"right{i}", [1.0], [1.0]) for i in range(20)]
    html = report(*right, WRONG)._repr_html_()
    assert "right0" not in html
    assert "20 other tensors (20 entries) agree." in html


@pytest.mark.parametrize("width", [40, 80, 160])
def test_rich_prints_what_the_command_prints_in_its_own_width(width):
    found = report(RIGHT, WRONG, ZERO, diagnosis=diagnosis())
    lines = printed(found, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert sentence(found) in re.sub(r"\s+", " ", " ".join(lines))


def test_rich_colors_the_verdict_only_if_the_console_has_colors():
    assert "\x1b[" not in printed(report(WRONG), width=80)
    assert "\x1b[1;31m✗" in printed(report(WRONG), width=80, force_terminal=True, color_system="standard")


def test_rich_fits_a_report_into_what_is_around_it():
    from rich.panel import Panel

    lines = printed(Panel(report(RIGHT)), width=60).splitlines()
    assert {len(line) for line in lines} == {60}


def test_the_report_of_a_check_shows_itself():
    found = check_gradients(lambda w: ((w**2).sum(), 2 * w), np.array([1.0, 2.0]))
    assert "agrees: all 2 entries" in Page(found._repr_html_()).text
    assert "agrees: all 2 entries" in printed(found, width=80)
