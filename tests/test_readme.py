"""The README is true: its commands run, and its output, keys and specs are real."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from documents import environment
from ruamel.yaml import YAML
from shown import settled

from gradcheck_cli import Spec
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.parameters import INITIALISERS
from gradcheck_cli.numerical.schemes import SCHEMES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

NET_YAML = """\
network:
  inputs: 4
  layers:
    - {units: 8, activaton: tanh}
    - {units: 0, activation: sigmod}
  loss: mse
data: {synthetic: normal}
"""


def blocks(language: str) -> list[str]:
    return [
        "\n".join(line.removeprefix("   ") if indent else line for line in body.splitlines())
        for indent, body in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)
    ]


def gradcheck(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run("gradcheck_cli", *arguments, cwd=cwd)


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the command as a reader types it, in UTF-8 and at any width."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=environment(),
    )


@pytest.mark.parametrize("block", blocks("console"))
def test_shown_output_is_what_the_command_prints(block, tmp_path):
    first, *output = block.splitlines()
    _, program, *arguments = shlex.split(first)
    module = {"gradcheck": "gradcheck_cli", "pytest": "pytest"}[program]
    (tmp_path / "net.yaml").write_text(NET_YAML, encoding="utf-8")
    result = run(module, *arguments, cwd=tmp_path if "net.yaml" in arguments else ROOT)
    printed, shown = settled(result.stderr + result.stdout, "\n".join(output))
    assert printed == shown


SHOWN = "\n".join(blocks("console"))


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("1.7e-13", "5.0e-14"),
        ("2.2e-16", "0"),
        ("[4, 20]", "[3, 1]"),
        ("0.1549194965 ± 9e-10", "0.1549194964 ± 7e-10"),
        ("in 1.29s", "in 12.31s"),
    ],
)
def test_rounding_differences_do_not_count_as_other_output(shown, printed):
    assert shown in SHOWN
    ours, readers = settled(SHOWN.replace(shown, printed), SHOWN)
    assert ours == readers


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("agrees: all", "agree: all"),
        ("in output.weight and output.bias", "in output.weight and hidden1.bias"),
        ("50 wrong", "49 wrong"),
        ("7.5e-01", "7.4e-01"),
        ("1.7e-13", "1.7e-03"),
        ("0.1549194965", "0.1549294965"),
        ("-0.0945", "0.0945"),
        ("2.80392", "2.80393"),
        ("[3, 27]", "[3, 26]"),
        ("[4, 20]", "[8]"),
        ("3,760", "3,761"),
        ("50 × 64", "64 × 50"),
        ("✗ wrong: 51", "\n✗ wrong: 51"),
        ("3 |███", "4 |███"),
        ("    3 |███", "   3 |███"),
        ("in 4 of 4", "in 3 of 4"),
        ("100.0%", "99.9%"),
    ],
)
def test_any_other_difference_counts(shown, printed):
    assert shown in SHOWN
    ours, readers = settled(SHOWN.replace(shown, printed), SHOWN)
    assert ours != readers


def test_there_are_exactly_the_two_promised_commands():
    first, second = blocks("sh")
    assert first.endswith(".venv/bin/gradcheck check configs/digits_mlp.yaml")
    assert second.endswith(".venv/bin/pytest")


def test_the_gate_runs_the_second_one():
    assert "<!-- test command -->" in README
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", blocks("yaml"))
def test_specs_are_valid(block):
    spec = YAML(typ="safe", pure=True).load(block)
    Spec.model_validate({"data": {"synthetic": "normal"}, **spec}, context={"folder": ROOT})


RUN_ITS_TESTS = "\n[value() for name, value in list(globals().items()) if name.startswith('test_')]"


@pytest.mark.parametrize("example", blocks("python"))
def test_python_example_runs(example):
    subprocess.run([sys.executable, "-c", example + RUN_ITS_TESTS], cwd=ROOT, check=True)


def keys(document: object) -> object:
    """Return the shape of a JSON document: its keys, and for a list the shape of its first item."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    return [keys(item) for item in document[:1]] if isinstance(document, list) else None


def test_json_has_the_documented_keys():
    (example,) = blocks("json")
    real = json.loads(gradcheck("check", "configs/wrong_gradient.yaml", "--format", "json").stdout)
    assert keys(json.loads(example)) == keys(real)


@pytest.mark.parametrize("table", [ACTIVATIONS, LOSSES, INITIALISERS, SCHEMES, FORMATS])
def test_every_name_of_the_tables_is_mentioned(table):
    assert [name for name in table if f"`{name}`" not in README] == []


def test_every_config_is_listed():
    assert [
        path for path in (ROOT / "configs").rglob("*.yaml") if path.relative_to(ROOT).as_posix() not in README
    ] == []


@pytest.mark.parametrize("block", [block for block in blocks("toml") if "[tool.pytest" in block])
def test_options_of_pytest_are_those_of_the_plugin(block, pytestconfig):
    for name in tomllib.loads(block)["tool"]["pytest"]["ini_options"]:
        assert pytestconfig.getini(name) is None  # known, but not set here


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
