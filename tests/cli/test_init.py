"""`gradcheck init` writes a first spec and overwrites nothing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from processes import COMMAND, POSIX, ended, everything, on_terminal, run
from ruamel.yaml import YAML

from gradcheck_cli import __version__, load_spec
from gradcheck_cli.spec.schema import json_schema
from gradcheck_cli.spec.starters import CODE_FILE, SCHEMA_FILE, STARTERS, starter, starter_code


def test_the_first_spec_runs_as_it_is(gradcheck):
    done = gradcheck("init")
    assert (done.code, done.out) == (0, "")
    assert (
        done.err == f"net.yaml written\n{SCHEMA_FILE} written, for editors\nnext: gradcheck check net.yaml\n"
    )
    assert gradcheck("check", "--strict", "net.yaml").code == 0


QUICK = [source for source in STARTERS if source not in ("jax", "torch-function")]
"""The sources that load quickly."""


@pytest.mark.parametrize("source", STARTERS)
def test_every_starter_is_valid_and_of_its_source(source, gradcheck):
    assert gradcheck("init", "--source", source, "sub.yaml").code == 0
    gradients = load_spec("sub.yaml").gradients.model_dump(by_alias=True)
    assert gradients[STARTERS[source].key]
    text = Path("sub.yaml").read_text()
    Draft7Validator(json_schema(__version__)).validate(YAML(typ="safe", pure=True).load(text))
    code = starter_code(source) if STARTERS[source].has_code else ""
    assert max(map(len, [*text.splitlines(), *code.splitlines()])) <= 110


@pytest.mark.parametrize("source", STARTERS)
def test_what_a_starter_leaves_to_be_uncommented_is_valid_too(source, folder):
    lines = starter(source).splitlines()
    keys = ("layout", "names", "penalty", "parameters", "data", "rtol", "strict", "fast", "order")
    uncommented = [
        line.replace("# ", "", 1) if line.strip().startswith(tuple(f"# {key}: " for key in keys)) else line
        for line in lines
    ]
    assert uncommented != lines
    (folder / "all.yaml").write_text("\n".join(uncommented))
    load_spec(folder / "all.yaml")


@pytest.mark.parametrize(
    ("source", "spec"),
    [*((source, "net.yaml") for source in STARTERS), *((source, "sub/net.yaml") for source in QUICK)],
)
def test_the_suggested_next_command_agrees(source, spec, folder, gradcheck):
    if STARTERS[source].key in ("torch", "jax"):
        pytest.importorskip(STARTERS[source].key)
    (folder / "sub").mkdir()
    *_, last = gradcheck("init", "--source", source, spec).err.splitlines()
    for command in last.removeprefix("next: ").split(" && "):
        program, *arguments = command.split()
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        else:
            done = apart(source, gradcheck, *arguments, "--strict")
    assert done == (0, "")


def apart(source, gradcheck, *arguments):
    """Return the exit code and stderr of a command, in its own process if jax runs: a fork may stop it."""
    if source != "jax":
        return (done := gradcheck(*arguments)).code, done.err
    return (done := run(*arguments)).returncode, done.stderr


@pytest.mark.parametrize("source", [source for source in QUICK if STARTERS[source].has_code])
def test_the_mistake_that_a_starter_proposes_is_found(source, folder, gradcheck):
    if source == "torch":
        pytest.importorskip("torch")
    gradcheck("init", "--source", source)
    code = Path(CODE_FILE)
    right, factor = re.search(r"( \* .*)  # leave out (.*), and see", code.read_text()).groups()
    assert right.endswith(f" * {factor}")
    code.write_text(code.read_text().replace(right, right.removesuffix(f" * {factor}")))
    if STARTERS[source].is_run:
        subprocess.run([sys.executable, CODE_FILE], check=True)
    assert gradcheck("check", "net.yaml").code == 1


def test_code_that_exists_stays_as_it_is_and_the_spec_names_another_file(folder, gradcheck):
    (folder / CODE_FILE).write_text("mine\n")
    done = gradcheck("init", "--source", "python")
    assert done.err.startswith(f"{CODE_FILE} already exists; not overwritten; the spec names my_net2.py\n")
    assert (folder / CODE_FILE).read_text() == "mine\n"
    assert gradcheck("check", "net.yaml", "--strict").code == 0


@pytest.mark.parametrize("second", ["python", "file", "backprop"])
def test_a_second_starter_in_the_same_folder_runs_as_the_first_does(second, folder, gradcheck):
    gradcheck("init", "--source", "python")
    first = (folder / CODE_FILE).read_text()
    done = gradcheck("init", "--source", second, "second.yaml")
    *_, last = done.err.splitlines()
    for command in last.removeprefix("next: ").split(" && "):
        program, *arguments = command.split()
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
    for spec in ("net.yaml", "second.yaml"):
        assert gradcheck("check", spec, "--strict").code == 0
    assert (folder / CODE_FILE).read_text() == first


def test_the_same_code_is_not_written_twice(folder, gradcheck):
    gradcheck("init", "--source", "python")
    gradcheck("init", "--source", "python", "second.yaml")
    assert [file.name for file in folder.glob("my_net*")] == [CODE_FILE]


def test_editors_find_the_schema_that_the_first_line_names(folder, gradcheck):
    (folder / "specs").mkdir()
    gradcheck("init", "specs/mine.yaml")
    first, *_ = (folder / "specs" / "mine.yaml").read_text().splitlines()
    schema = folder / "specs" / first.removeprefix("# yaml-language-server: $schema=")
    assert schema.read_text() == gradcheck("schema").out


@pytest.mark.parametrize("name", ["net.yaml", "net", "linked.yaml", "sub"])
def test_nothing_is_overwritten(name, folder, gradcheck):
    (folder / "sub").mkdir()
    (folder / "linked.yaml").symlink_to("nowhere.yaml")
    for file in ("net.yaml", "net"):
        (folder / file).write_text("mine\n")
    done = gradcheck("init", name)
    assert done.code == 2
    assert done.err.startswith(f"error: '{name}' already exists; not overwritten\n      = help: ")
    assert (folder / "net.yaml").read_text() == (folder / "net").read_text() == "mine\n"
    assert not (folder / SCHEMA_FILE).exists()
    assert not (folder / "nowhere.yaml").exists()


def test_an_existing_schema_is_not_changed(folder, gradcheck):
    (folder / SCHEMA_FILE).write_text("mine\n")
    assert gradcheck("init").err.startswith("net.yaml written\n")
    assert (folder / SCHEMA_FILE).read_text() == "mine\n"


def test_a_dash_is_standard_output_and_writes_no_file(folder, gradcheck):
    before = sorted(folder.iterdir())
    done = gradcheck("init", "-")
    assert (done.code, done.out, done.err) == (0, starter("backprop"), "")
    assert sorted(folder.iterdir()) == before


def test_a_missing_folder_is_reported(gradcheck):
    done = gradcheck("init", "no/such/net.yaml")
    assert done.code == 2
    assert done.err == "error: 'no/such/net.yaml' cannot be written: No such file or directory\n"


@POSIX
@pytest.mark.parametrize("blocks", [1, 8])  # too few bytes for the spec, and for the schema
def test_on_a_full_disk_nothing_is_left(blocks, folder):
    before = sorted(folder.iterdir())
    line = f"export PYTHONDONTWRITEBYTECODE=1; ulimit -f {blocks}; exec {shlex.join([*COMMAND, 'init'])}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before


def test_without_a_terminal_there_are_no_questions(folder):
    done = run("init", stdin=None, input="python\n")
    assert done.returncode == 0
    assert "?" not in done.stderr
    assert "backprop" in (folder / "net.yaml").read_text()


def asked(answers: bytes, *arguments: str) -> tuple[int, str]:
    """Return the result of `gradcheck init` on a terminal where these answers are typed."""
    with on_terminal("init", *arguments, typed=answers, after="Source (") as (process, texts):
        text = everything(texts)
        return ended(process), text


@POSIX
@pytest.mark.parametrize(("typed", "source"), [(b"\n", "backprop"), (b"nonsense\npython\n", "python")])
def test_a_terminal_asks_whose_gradients_they_are(typed, source, folder):
    code, text = asked(typed)
    assert code == 0
    assert all(row.what in text for row in STARTERS.values())
    assert (folder / "net.yaml").read_text() == starter(source)


@POSIX
def test_a_terminal_does_not_ask_if_the_option_is_given(folder):
    code, text = asked(b"", "--source", "torch")
    assert code == 0
    assert "?" not in text


@POSIX
@pytest.mark.parametrize("typed", [b"\x03", b"\x04"], ids=["ctrl-c", "ctrl-d"])
def test_no_answer_is_an_interruption_and_writes_nothing(typed, folder):
    code, text = asked(typed)
    assert code == 130
    assert text.endswith("\r\ninterrupted\r\n")
    assert not (folder / "net.yaml").exists()
