"""A code source is one row. Everything that lists the sources finds a row added at run time."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
from paths import ROOT

from gradcheck_cli.spec.code_sources import CODE_SOURCES
from gradcheck_cli.spec.gradients import CODE_MODELS, Code
from gradcheck_cli.spec.spec import Spec

FUNCTION = "def f(w): return (w['a'] ** 2).sum(), {'a': FACTOR * w['a']}\nparameters = {'a': [1.0, 2.0]}\n"

PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

from gradcheck_cli.spec import code_sources

python = next(source for source in code_sources.CODE_SOURCES if source.key == "python")
keys = python.keys.replace("python: ", "julia: ")
new = {"key": "julia", "name": "Julia", "what": "Julia", "option": "Of Julia.", "model": "JuliaFunction"}
code_sources.CODE_SOURCES += (replace(python, keys=keys, **new),)

from click.shell_completion import ShellComplete
from gradcheck_cli import cli

def run(arguments):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
        try:
            cli.main(arguments)
        except SystemExit as left:
            return left.code, out.getvalue()

def complete(*words):
    *before, last = words
    return [each.value for each in ShellComplete(cli.cli, {}, "", "").get_completions(before, last)]

done = {" ".join(arguments): run(arguments) for arguments in json.load(sys.stdin)}
completed = [complete("check", "--ju"), complete("sweep", "--ju"), complete("init", "--source", "ju")]
print(json.dumps([done, completed]))
"""

COMMANDS = [
    ("check right.yaml", 0, "agrees"),
    ("check wrong.yaml", 1, "analytic / numerical is 1.5 in every entry of a"),
    ("check right.yaml --julia wrong.py:f", 1, "analytic / numerical is 1.5 in every entry of a"),
    ("sweep wrong.yaml", 1, "wrong"),
    ("sweep wrong.yaml --julia right.py:f", 0, "f of right.py"),
    ("check right.yaml --no-code", 2, "this spec runs f of right.py, and --no-code forbids it"),
    ("check right.yaml --julia f", 2, "--julia must be FILE.py:NAME, not 'f'"),
    (
        "check right.yaml --julia a.py:f --torch b.py:f",
        2,
        "--torch and --julia cannot be used together; choose one of them",
    ),
    ("check right.yaml --julia gone.py:f", 2, "error: right.yaml: --julia: there is no file 'gone.py'"),
    ("check gone.yaml", 2, "gone.yaml:1:20: error: there is no file 'gone.py'"),
    ("check misspelt.yaml", 2, "unknown key 'jula'"),
    ("check misspelt.yaml --strict", 2, "did you mean 'julia'?"),
    ("check --help", 0, "Refuse specs that name code to run (layers, Python, torch, jax or Julia)."),
    ("sweep --help", 0, "--julia FILE.py:NAME"),
    ("init --help", 0, "[backprop|file|forward|python|torch|jax|julia|taps|torch-function]"),
]


@pytest.fixture(scope="module")
def with_a_new_row(tmp_path_factory):
    """Run and complete commands with another code source, which the reader of Python functions reads."""
    folder = tmp_path_factory.mktemp("new_row")
    for name, factor in {"right": 2, "wrong": 3}.items():
        (folder / f"{name}.py").write_text(FUNCTION.replace("FACTOR", str(factor)))
    for name, key in {"right": "julia", "wrong": "julia", "gone": "julia", "misspelt": "jula"}.items():
        (folder / f"{name}.yaml").write_text(f"gradients: {{{key}: {name}.py:f}}\n")
    commands = [arguments.split() for arguments in ("schema", *(command for command, _, _ in COMMANDS))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        input=json.dumps(commands),
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("command", "code", "says"), COMMANDS)
def test_the_command_line_finds_a_new_row(command, code, says, with_a_new_row):
    done, _ = with_a_new_row
    assert says in " ".join(done[command][1].split())
    assert done[command][0] == code


def test_the_schema_finds_a_new_row(with_a_new_row):
    done, _ = with_a_new_row
    schema = json.loads(done["schema"][1])
    assert {"required": ["julia"]} in schema["if"]["not"]["properties"]["gradients"]["anyOf"]
    assert schema["definitions"]["JuliaFunction"]["required"] == ["julia"]
    assert {"$ref": "#/definitions/JuliaFunction"} in schema["properties"]["gradients"]["oneOf"]


def test_completion_finds_a_new_row(with_a_new_row):
    _, completed = with_a_new_row
    assert completed == [["--julia"], ["--julia"], ["julia"]]


@pytest.mark.parametrize("source", CODE_SOURCES, ids=lambda source: source.key)
def test_a_spec_with_code_survives_pickling(source, tmp_path):
    """Worker processes receive it that way."""
    settings = (
        {"vectorized": True, "names": {"a": "b"}}
        if source.is_network
        else dict.fromkeys(source.functions, "g")
    )
    given = {"gradients": {source.key: "net.py:f", **settings}}
    spec = Spec.model_validate(given, context={"folder": tmp_path})
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert type(again.gradients) is CODE_MODELS[source.key]
    assert again.names_code == Code(tmp_path / "net.py", "f")
    assert again.gradients.where == ("gradients", source.key)
