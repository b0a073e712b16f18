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
from pathlib import Path

import pytest
from documents import DOCS, PAGES, Session, blocks, do, needs, same
from paths import ROOT
from ruamel.yaml import YAML

from gradcheck_cli import Spec

TEXTS = {page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES}
WITH_COMMANDS = [page for page, text in TEXTS.items() if {"console", "sh", "py"} & {b.language for b in blocks(text)}]

NOT_RUN = r"(python3 -m venv|source|pip install|pipx|uvx|git clone|git add|pre-commit|mkdocs|eval|_GRADCHECK_COMPLETE|#)"
"""What `bash` blocks may hold: they install something, or set a shell up."""


def is_missing(name: str) -> bool:
    return find_spec(name) is None and shutil.which(name) is None


@pytest.mark.parametrize("page", WITH_COMMANDS)
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
        assert block.language in {"console", "sh", "bash", "py", "yaml", "yml", "toml", "c", "json", "diff", "text"}
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
    (shown, _) = [shown for b in blocks(page) for command, shown in b.steps if "--format json" in command]
    described = set(re.findall(r"`(\w+)`", page))
    assert keys(json.loads(shown)) - described == set()


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

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag != "a" and given.get("rel") != "canonical":
            self.addresses += [given[key] for key in ("src", "href", "srcset", "data", "poster") if given.get(key)]
        self.addresses += re.findall(r"url\(([^)]*)\)", given.get("style") or "")


def is_elsewhere(address: str) -> bool:
    return re.match(r"""["']?(\w+:)?//""", address) is not None


def fetched(html: str) -> list[str]:
    parser = Requests()
    parser.feed(html)
    return parser.addresses


STYLE = re.compile(r"url\(([^)]*)\)|@import\s+(?:url\()?([^;)]*)")
IN_SCRIPT = re.compile(r"""(?:fetch|importScripts|import|open|src=|XMLHttpRequest[^;]{,80})\(?["'`](https?://[^"'`]*)""")


@pytest.mark.slow
def test_no_page_fetches_anything_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES) - 1
    for page in pages:
        assert list(filter(is_elsewhere, fetched(page.read_text(encoding="utf-8")))) == []


@pytest.mark.slow
def test_no_style_fetches_anything_from_another_host(site):
    styles = [*site.rglob("*.css"), *site.rglob("*.html")]
    for style in styles:
        found = STYLE.findall(style.read_text(encoding="utf-8"))
        assert [address for pair in found for address in pair if is_elsewhere(address)] == []


KNOWN_TO_SCRIPTS = {
    "https://unpkg.com/mermaid": 'class="mermaid"',
    "https://unpkg.com/iframe-worker": "file://",
    "https://api.github.com": 'data-md-component="source"',
    "https://gitlab.com": 'data-md-component="source"',
}
"""What the theme's script fetches only for a page that has what is named here. None of ours has."""


@pytest.mark.slow
def test_what_scripts_could_fetch_is_asked_for_by_no_page(site):
    html = "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    for script in site.rglob("*.js"):
        for address in set(re.findall(r"https?://[\w.-]+/[\w./-]*", script.read_text(encoding="utf-8"))):
            print(script.name, address)
    assert not [why for why in KNOWN_TO_SCRIPTS.values() if why in html]


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
