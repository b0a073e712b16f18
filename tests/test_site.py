"""The documentation's site builds without a warning, and a browser fetches nothing from another host."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser

import pytest
from documents import PAGES
from paths import ROOT

from gradcheck_cli import Spec
from gradcheck_cli.cli import cli

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `mkdocs build --strict` builds it."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings(action="ignore"):
        patched.setenv("NO_MKDOCS_2_WARNING", "1")
        patched.chdir(ROOT)
        pytest.importorskip("mkdocstrings")
        mkdocs = pytest.importorskip("mkdocs.__main__").cli
        folder = tmp_path_factory.mktemp("site")
        mkdocs.main(["build", "--strict", "--site-dir", str(folder)], standalone_mode=False)
    return folder


class Requests(HTMLParser):
    """The addresses that a browser fetches when it opens a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag != "a" and given.get("rel") != "canonical":
            named = (given.get(key) for key in ("src", "href", "srcset", "data", "poster"))
            self.addresses += filter(None, named)
        self.addresses += re.findall(r"url\(([^)]*)\)", given.get("style") or "")


def is_elsewhere(address):
    return re.match(r"""["']?(\w+:)?//""", address) is not None


def fetched(html):
    parser = Requests()
    parser.feed(html)
    return parser.addresses


STYLE = re.compile(r"url\(([^)]*)\)|@import\s+(?:url\()?([^;)]*)")

ASKED_FOR_BY = {
    "https://unpkg.com/mermaid@": 'class="mermaid"',
    "https://unpkg.com/resize-observer-polyfill": "a browser from before 2020",
    "https://api.github.com/": 'data-md-component="source"',
    "https://${e}/api/v4/": 'data-md-component="source"',
}
"""Addresses in the theme's script, and what makes it fetch them."""

COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_no_page_fetches_anything_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        assert list(filter(is_elsewhere, fetched(page.read_text(encoding="utf-8")))) == []


@pytest.mark.slow
def test_no_style_fetches_anything_from_another_host(site):
    for style in [*site.rglob("*.css"), *site.rglob("*.html")]:
        found = STYLE.findall(style.read_text(encoding="utf-8"))
        assert [address for pair in found for address in pair if is_elsewhere(address)] == []


@pytest.mark.slow
def test_no_page_makes_the_script_fetch_from_another_host(site):
    html = "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    (script,) = (site / "assets" / "javascripts").glob("bundle.*.js")
    addresses = re.findall(r"https?://[^\s\"'`)]*", COMMENT.sub("", script.read_text(encoding="utf-8")))
    assert addresses
    for address in addresses:
        (asked_for_by,) = (why for known, why in ASKED_FOR_BY.items() if address.startswith(known))
        assert asked_for_by not in html


@pytest.mark.slow
def test_the_generated_reference_is_complete(site):
    commands = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    spec = (site / "reference" / "spec" / "index.html").read_text(encoding="utf-8")
    options = {option for command in cli.commands.values() for each in command.params for option in each.opts}
    assert [name for name in cli.commands if f'id="gradcheck-{name}"' not in commands] == []
    shown = set(re.findall(r"--[a-z][a-z-]*", commands))
    assert {option for option in options if option.startswith("--")} - shown == set()
    assert [key for key in Spec.model_fields if f"<code>{key}</code>" not in spec] == []


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<img src='http://example/pixel.png'>",
        '<div style="background: url(https://example/a.png)">',
    ],
)
def test_a_request_to_another_host_would_be_found(html):
    assert list(filter(is_elsewhere, fetched(html)))


def test_a_link_to_another_host_is_no_request():
    assert fetched('<a href="https://example">') == []
