"""The docs tell the truth: their commands are run, their files are used, and what they show is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec

import pytest
from documents import DOCS, PAGES, Session, blocks, do, needs, same
from paths import ROOT
from ruamel.yaml import YAML

from gradcheck_cli import Spec
from gradcheck_cli.cli import cli
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.parameters import INITIALISERS
from gradcheck_cli.numerical.schemes import SCHEMES

TEXTS = {page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES}

RUN = {"console", "sh", "py"}
READ = {"bash", "yaml", "yml", "toml", "c", "json", "diff", "text"}

NOT_RUN = r"(python3 -m venv|source|pip install|pipx|uvx|git clone|eval|_GRADCHECK_COMPLETE)"
"""What `bash` blocks may hold: commands that install something or set up a shell."""


def is_missing(name):
    return find_spec(name) is None and shutil.which(name) is None


def slow_if(condition):
    return [pytest.mark.slow] if condition else []


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=slow_if({"torch", "jax"} & set(needs(text))))
        for page, text in TEXTS.items()
        if RUN & {block.language for block in blocks(text)}
    ],
)
def test_a_page_can_be_followed_from_top_to_bottom(page, tmp_path):
    for missing in filter(is_missing, needs(TEXTS[page])):
        pytest.skip(f"{missing} is not installed")
    session = Session(tmp_path)
    for block in blocks(TEXTS[page]):
        if block.language != "console":
            do(session, block)
            continue
        printed = session.printed([command for command, _ in block.steps])
        for (command, shown), ours in zip(block.steps, printed, strict=True):
            ours, readers = same(command, ours, shown)
            assert ours == readers, f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_specs_are_valid(page):
    for block in blocks(TEXTS[page]):
        if block.language == "yaml" and not block.title:
            spec = YAML(typ="safe", pure=True).load(block.body)
            Spec.model_validate({"data": {"synthetic": "normal"}, **spec}, context={"folder": ROOT})


@pytest.mark.parametrize("page", PAGES)
def test_no_block_hides_a_command_from_these_tests(page):
    for block in blocks(TEXTS[page]):
        assert block.language in RUN | READ
        if block.language == "text":
            assert not re.search(r"^(\$ |gradcheck [a-z]+ (?!\[))", block.body, re.MULTILINE)
        if block.language == "bash":
            assert all(re.match(NOT_RUN, line) for line in block.body.splitlines() if line)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_title(page):
    outside = re.sub(r"^( *)```.*?^\1```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", outside, re.MULTILINE)) == 1


def keys(document):
    """Every key of a JSON document, however deep."""
    if isinstance(document, dict):
        return set(document) | {key for value in document.values() for key in keys(value)}
    return {key for item in document for key in keys(item)} if isinstance(document, list) else set()


def test_every_key_of_the_json_output_is_described():
    page = TEXTS["reference/json.md"]
    steps = [step for block in blocks(page) for step in block.steps]
    (shown,) = (shown for command, shown in steps if command.endswith("--format json"))
    described = set(re.findall(r"`(\w+)`", page))
    assert keys(json.loads(shown)) - described == set()


@pytest.mark.parametrize(
    ("page", "table"),
    [
        *(("reference/spec.md", table) for table in (ACTIVATIONS, LOSSES, INITIALISERS, SCHEMES)),
        ("how-to/ci.md", FORMATS),
    ],
)
def test_every_row_of_a_table_is_described(page, table):
    assert [name for name in table if f"`{name}`" not in TEXTS[page]] == []


# --- the site --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as the gate builds it: any warning is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        check=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
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
