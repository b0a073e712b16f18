"""Colors, glyphs and the width of lines, off a terminal and on one."""

from __future__ import annotations

import os

import pytest
from command_specs import (
    GOOD,
)
from processes import POSIX, run


def test_off_a_terminal_no_line_is_wrapped_and_nothing_is_colored(gradcheck):
    out = gradcheck("check", "--show", "3", "wrong.yaml").out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) > 100
    assert "numerical ± error  verdict\n" in out


@pytest.mark.parametrize("width", ["40", "80"])
@pytest.mark.parametrize("command", [["check", "--show", "3", "-v"], ["explain"]], ids=lambda c: c[0])
def test_columns_of_the_environment_bound_every_line(command, width, gradcheck, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    out = gradcheck(*command, "wrong.yaml").out
    assert max(map(len, out.splitlines())) <= int(width)


@pytest.mark.parametrize("columns", ["", "0", "-5", "many", "²"])
def test_columns_that_are_not_a_number_are_ignored(columns, gradcheck, monkeypatch):
    expected = gradcheck("check", "wrong.yaml").out
    monkeypatch.setenv("COLUMNS", columns)
    assert gradcheck("check", "wrong.yaml").out == expected


@pytest.mark.parametrize(
    ("option", "variables", "colored"),
    [
        ("auto", {}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": ""}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("always", {"TERM": "dumb"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_color_is_what_the_option_says_then_the_environment(
    command, option, variables, colored, gradcheck, monkeypatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in gradcheck(command, "--color", option, "good.yaml").out) == colored


def test_json_is_never_colored(gradcheck):
    assert "\x1b" not in gradcheck("check", "--color", "always", "--format", "json", "wrong.yaml").out


def assert_ascii(code: int, *arguments: str, **variables: str) -> None:
    done = run(*arguments, encoding=None, env={**os.environ, **variables})
    assert done.returncode == code
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C"},
        {"LANG": "POSIX"},
        {"LC_ALL": "C"},
        {"LC_CTYPE": "C", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_a_plain_locale_gets_ascii_on_both_streams(variables, folder):
    assert_ascii(2, "check", "--only", "δ*", "good.yaml", "naïve.yaml", **variables)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "--show", "3", "-v", "wrong.yaml", "undecided.yaml"], 1),
        (["check", "--format", "json", "wrong.yaml"], 1),
        (["check", "--scheme", "δ", "good.yaml"], 2),
        (["check", "-h"], 0),
        (["explain", "-h"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whatever_a_plain_locale_gets_is_ascii(arguments, code, folder):
    assert_ascii(code, *arguments, PYTHONIOENCODING="ascii")


@pytest.mark.parametrize("variables", [{}, {"LC_ALL": "C.UTF-8", "LANG": "C"}, {"LANG": ""}], ids=str)
def test_any_other_locale_gets_the_glyphs(variables, folder):
    done = run("check", "good.yaml", env={**os.environ, **variables})
    assert "✓ agrees" in done.stdout


@POSIX
@pytest.mark.parametrize(
    "name", [b"\xff.yaml", b"\x1b[2J.yaml", b"two\nlines.yaml", b"[bold].yaml"], ids=repr
)
def test_a_file_name_cannot_spoil_the_output(name, folder, gradcheck):
    (folder / os.fsdecode(name)).write_text(GOOD)
    done = gradcheck("check", "-q", os.fsdecode(name), "bad.yaml")
    assert done.code == 2
    first, _ = done.out.splitlines()
    assert first == f"✓ {ascii(os.fsdecode(name))[1:-1]}: agrees: all 26 entries."
