"""Every format points to the page on a mistake as soon as the documentation has an address."""

from __future__ import annotations

import json

import pytest
from reports import WRONG, diagnosis, report

from gradcheck_cli.formats import FORMATS, View, pages, render
from gradcheck_cli.formats.pages import page_of, slug
from gradcheck_cli.report import Outcome, Run

RUN = Run((Outcome("why.yaml", report(WRONG, diagnosis=diagnosis())),))
PAGE = "https://docs.test/mistakes/missing-activation-derivative/"


@pytest.mark.parametrize("address", ["https://docs.test", "https://docs.test/"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_cause_points_to_its_page(format, address, monkeypatch):
    assert "docs.test" not in render(format, RUN, View())
    monkeypatch.setattr(pages, "DOCS", address)
    assert PAGE in render(format, RUN, View())


def test_the_page_stands_under_why(monkeypatch):
    monkeypatch.setattr(pages, "DOCS", "https://docs.test")
    lines = render("table", RUN, View()).splitlines()
    right = lines.index("  · right: δ = ∂L/∂a · a (1 − a)")
    assert any(line.startswith("Why:") for line in lines[:right])
    assert lines[right + 1] == f"  · see {PAGE}"


def test_json_has_the_page_of_a_cause_and_no_key_without_one(monkeypatch):
    def cause() -> dict[str, object]:
        (spec,) = json.loads(render("json", RUN, View()))["specs"]
        return spec["diagnosis"]["answers"][0]["causes"][0]

    assert "page" not in cause()
    monkeypatch.setattr(pages, "DOCS", "https://docs.test")
    assert cause()["page"] == PAGE


def test_html_links_to_the_page(monkeypatch):
    monkeypatch.setattr(pages, "DOCS", "https://docs.test")
    assert f'<a href="{PAGE}">missing_activation_derivative</a>' in render("html", RUN, View())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("1/N twice", "1-n-twice"),
        ("batch norm: eps outside the root", "batch-norm-eps-outside-the-root"),
        ("target's entry alone", "targets-entry-alone"),
    ],
)
def test_a_page_is_named_after_its_kind(kind, name):
    assert slug(kind) == name


def test_without_an_address_there_is_no_page():
    assert page_of("sign") == ""
