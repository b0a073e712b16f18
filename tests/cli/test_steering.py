"""Names of files, tensors and layers that try to control a terminal or a CI job's log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_specs import GOOD, TINY
from processes import POSIX, everything, on_terminal

from gradcheck_cli.cli.terminal import say
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.formats.glyphs import without_commands

NAMES = {
    "escapes": "a\x1b]0;OWNED\x07\x1b[41mb\x9b31mc\u202ed\u2028::error::x",
    "lines": "e\n::error::x\r##[error]x",
    "command": "::error::x",
    "old command": " ##[error]x",
    "half a pair": "f\udc80g",
}
"""One name of each kind that does something when printed."""

STEERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
    r"|^[^\S\n]*(?:::|##\[)",
    re.MULTILINE,
)

CODE = """
import numpy as np

def parameters():
    return {{{name!r}: np.array([1.0, -2.0]), "w": np.ones(2)}}

def f(p, x, y):
    return sum(np.exp(v).sum() for v in p.values()), {{n: {factor} * np.exp(v) for n, v in p.items()}}
"""


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def name(request, folder) -> str:
    return request.param


def steering(done) -> list[str]:
    return STEERS.findall(done.out) + STEERS.findall(done.err)


@POSIX
@pytest.mark.parametrize("format", [format for format in FORMATS if format != "github"])
@pytest.mark.parametrize("content", ["good", "wrong", "bad"])
def test_no_name_of_a_spec_steers_the_terminal(content, format, name, folder, gradcheck):
    if format == "html":
        pytest.importorskip("jinja2")
    spec = f"{name}.yaml"
    Path(spec).write_text((folder / f"{content}.yaml").read_text())
    assert steering(gradcheck("check", spec, "--format", format, "--color", "never")) == []


@POSIX
@pytest.mark.parametrize("format", [format for format in FORMATS if format != "github"])
@pytest.mark.parametrize("factor", [1, 3])
def test_no_name_of_a_tensor_steers_a_terminal_or_log(factor, format, name, folder, gradcheck):
    if format == "html":
        pytest.importorskip("jinja2")
    (folder / "code.py").write_text(CODE.format(name=name, factor=factor))
    (folder / "code.yaml").write_text("gradients: {python: code.py:f}\n")
    done = gradcheck("check", "code.yaml", "--format", format, "--color", "never", "--show", "5", "-v")
    assert done.code == (0 if factor == 1 else 1)
    assert steering(done) == []


@POSIX
def test_a_name_is_unchanged_where_nothing_can_be_steered(name, folder, gradcheck):
    (folder / "code.py").write_text(CODE.format(name=name, factor=3))
    (folder / "code.yaml").write_text("gradients: {python: code.py:f}\n")
    (spec,) = json.loads(gradcheck("check", "code.yaml", "--format", "json").out)["specs"]
    assert name in [tensor["name"] for tensor in spec["tensors"]]
    cases = ElementTree.fromstring(gradcheck("check", "code.yaml", "--format", "junit").out).iter("testcase")
    first = next(cases).attrib["name"]
    assert first == name or not name.isprintable()


@POSIX
@pytest.mark.parametrize("kind", ["array", "file"])
def test_no_name_in_a_complaint_steers_the_terminal(kind, name, folder, gradcheck):
    np.savez("g.npz", **{"x" if kind == "file" else name.encode(errors="replace").decode(): np.ones(2)})
    file = json.dumps(name if kind == "file" else "g.npz")
    Path("net.yaml").write_text(f"{GOOD}gradients: {{file: {file}}}\n")
    for format in ("table", "markdown", "junit"):
        done = gradcheck("check", "net.yaml", "--format", format)
        assert done.code == 2
        assert steering(done) == []


@POSIX
@pytest.mark.parametrize(
    "command",
    [
        ["explain"],
        ["explain", "--format", "markdown"],
        ["sweep", "--scheme", "central"],
        ["mutate", "--sample", "1"],
        ["dump", "-o", "out"],
        ["dump", "-o", "NAME.npz"],
    ],
    ids=" ".join,
)
def test_no_name_in_any_command_steers_the_terminal(command, name, folder, gradcheck):
    Path(f"{name}.yaml").write_text(TINY)
    words = [word.replace("NAME", name) for word in command]
    assert steering(gradcheck(*words, f"{name}.yaml")) == []


@POSIX
def test_no_name_of_a_new_spec_steers_the_terminal(name, folder, gradcheck):
    for _ in ("new", "there already"):
        assert steering(gradcheck("init", f"{name}.yaml", "--source", "python")) == []


@POSIX
def test_no_word_of_the_command_line_steers_the_terminal(name, folder, gradcheck):
    for line in (["check", "--only", name, "good.yaml"], ["check", f"--{name}"], [name], ["check", name]):
        done = gradcheck(*line)
        assert done.code == 2
        assert steering(done) == []


@POSIX
@pytest.mark.parametrize("name", ["a\x1b]0;OWNED\x07", "\x9b31mc", "d\u202ee"], ids=ascii)
def test_the_progress_is_not_steered_by_its_title(name, folder):
    Path("code.py").write_text(
        CODE.format(name="v", factor=1).replace("return sum", "import time; time.sleep(0.04); return sum")
    )
    Path(f"{name}.yaml").write_text("gradients: {python: code.py:f}\ncheck: {differences: literal}\n")
    with on_terminal("check", f"{name}.yaml") as (_, texts):
        text = everything(texts)
    assert "running the code" in text
    assert "OWNED\x07" not in text
    for control in ("\x1b]0", "\x9b", "\u202e"):
        assert control not in text


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("::error::x", r"\x3a:error::x"),
        (" \t##[error]x", " \t\\x23#[error]x"),
        ("a\n::x", "a\n\\x3a:x"),
        ("\x1b[1m::x", "\x1b[1m\\x3a:x"),
        ("a ::x :: y", "a ::x :: y"),
        (": x", ": x"),
        ("## [x", "## [x"),
    ],
)
def test_workflow_commands_are_escaped_in_a_log(text, becomes):
    assert without_commands(text) == becomes


def test_messages_have_no_more_lines_than_allowed(capsys):
    say("a\nb", "::c")
    assert capsys.readouterr().err == "a\\nb\n\\x3a:c\n"
