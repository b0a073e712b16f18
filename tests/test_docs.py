"""The docs tell the truth: their commands run, their files are used, and their outputs are current."""

from __future__ import annotations

import json
import os
import re
import tomllib

import pytest
from documents import DOCS, PAGES, Session, blocks, do, is_missing, needs, same
from paths import ROOT
from ruamel.yaml import YAML

from gradcheck_cli import Spec
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.schemes import SCHEMES

TEXTS = {page: (DOCS / page).read_text(encoding="utf-8") for page in PAGES}

RUN = {"console", "sh", "py"}
READ = {"bash", "yaml", "yml", "toml", "c", "json", "diff", "text"}

NOT_RUN = (
    r"(python3 -m venv|source|pip install|pipx|uvx|git clone|eval|_GRADCHECK_COMPLETE"
    r"|dask (scheduler|worker)|helm|kubectl|gradcheck check \S+ --jobs dask)"
)
"""What `bash` blocks may hold: commands that install something, set up a shell or need a cluster.

`tests/parallel/test_dask.py` runs a cluster.
"""


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
@pytest.mark.skipif(os.name == "nt", reason="the reader's shell is bash")
def test_a_page_can_be_followed_from_top_to_bottom(page, tmp_path):
    for missing in filter(is_missing, needs(TEXTS[page])):
        pytest.skip(f"{missing} is not installed")
    session = Session(tmp_path, [name for name in needs(TEXTS[page]) if name == "torch"])
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


def test_options_of_pytest_are_those_of_the_plugin(pytestconfig):
    (block,) = (block for block in blocks(TEXTS["how-to/pytest.md"]) if block.language == "toml")
    for name in tomllib.loads(block.body)["tool"]["pytest"]["ini_options"]:
        assert pytestconfig.getini(name) is None  # known, and not set here


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


def test_every_example_spec_is_described_and_every_spec_shown_is_one():
    shown = re.findall(r'--8<-- "(configs/.*)"', TEXTS["examples.md"])
    assert shown
    assert all((ROOT / name).is_file() for name in shown)
    specs = (path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
    assert [name for name in specs if f"`{name}`" not in TEXTS["examples.md"]] == []
