from __future__ import annotations

import os
import re
from dataclasses import dataclass

import pytest
from reports import HALF_KNOWN, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report

from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.github import MOST
from gradcheck_cli.report import Outcome, Run


@dataclass
class Read:
    """A workflow command as GitHub's runner parses it."""

    kind: str
    properties: dict[str, str]
    message: str


def unescaped(text: str, *more: str) -> str:
    for character in ("\r", "\n", *more, "%"):
        text = text.replace(f"%{ord(character):02X}", character)
    return text


def read(*outcomes: Outcome, **view) -> list[Read]:
    commands = []
    for line in render("github", Run(outcomes), View(**view)).splitlines():
        if match := re.fullmatch(r"::(\w+) (.*?)::(.*)", line):
            kind, written, message = match.groups()
            pairs = (pair.split("=", 1) for pair in written.split(","))
            properties = {name: unescaped(value, ":", ",") for name, value in pairs}
            commands.append(Read(kind, properties, unescaped(message)))
    return commands


def at(spec: str, line: int, column: int) -> Position:
    return Position(spec, line, column, "text")


def test_a_wrong_tensor_is_an_error_at_its_layer():
    whole = report(RIGHT, WRONG, diagnosis=diagnosis())
    outcome = Outcome("net.yaml", whole, places={"output.bias": at("net.yaml", 5, 7)})
    (error,) = read(outcome)
    assert error.kind == "error"
    assert error.properties == {
        "file": "net.yaml",
        "line": "5",
        "col": "7",
        "title": "output.bias: wrong gradient",
    }
    assert error.message.splitlines() == [
        "output.bias: 2 of 3 entries are wrong",
        "  output.bias[2] is 3e-07; finite differences give 6e-07 ± 1e-12 (relative error 5.0e-01)",
        "  output.bias[1] is -2; finite differences give -2.5 ± 1e-12 (relative error 2.0e-01)",
        "Why: the activation's derivative is missing from δ of layer output.",
        "  wrong: δ = ∂L/∂a   (see ∂a/∂z in gradcheck explain)",
        "  right: δ = ∂L/∂a · a (1 − a)",
        "  This explanation reproduces every entry, up to rounding.",
    ]


@pytest.mark.parametrize(
    ("whole", "kinds"),
    [
        (report(RIGHT, HALF_KNOWN), []),
        (report(RIGHT, UNKNOWN), ["warning"]),
        (report(UNKNOWN, WRONG), ["error", "warning"]),
        (report(HALF_KNOWN, strict=True), ["warning"]),
        (report(ZERO), ["warning"]),
    ],
)
def test_undecided_tensors_are_warnings(whole, kinds):
    assert [command.kind for command in read(Outcome("net.yaml", whole))] == kinds


def test_every_complaint_about_a_spec_is_an_error_in_its_place():
    complaints = (
        Complaint("unknown key", help="did you mean 'key'?", position=at("bad.yaml", 3, 5)),
        Complaint("no"),
    )
    first, second = read(Outcome("bad.yaml", complaints=complaints))
    assert first.properties == {"file": "bad.yaml", "line": "3", "col": "5", "title": "not checked"}
    assert first.message == "unknown key\nhelp: did you mean 'key'?"
    assert second.properties == {"file": "bad.yaml", "title": "not checked"}
    (defect,) = read(Outcome("a.yaml", complaints=(Complaint("oh"),), failure=ExitCode.DEFECT))
    assert defect.properties["title"] == "gradcheck itself failed"


def test_the_worst_ten_of_many_are_shown_and_the_others_counted():
    wrong = [comparison(f"w{i}", [1.0], [1.0 + 0.01 * i]) for i in range(1, 15)]
    unknown = [comparison(f"u{i}", [1.0], [float("nan")], float("inf")) for i in range(11)]
    bad = Outcome("bad.yaml", complaints=(Complaint("no"),))
    commands = read(Outcome("net.yaml", report(*unknown, *wrong)), bad)
    errors = [command for command in commands if command.kind == "error"]
    assert errors[0].message == "no"
    assert [error.properties["title"].split(":")[0] for error in errors[1:]] == [
        f"w{i}" for i in range(14, 14 - MOST + 1, -1)
    ]
    assert sum(command.kind == "warning" for command in commands) == MOST
    assert [command.message for command in commands if command.kind == "notice"] == [
        "+5 more errors; see the report or the log",
        "+1 more warning; see the report or the log",
    ]


def test_among_equally_bad_ones_the_first_comes_first():
    tensors = [comparison(name, [1.0 + 1e-9 * i], [2.0]) for i, name in enumerate(("w2", "b2", "w1", "b1"))]
    titles = [command.properties["title"] for command in read(Outcome("net.yaml", report(*tensors[::-1])))]
    assert [title.split(":")[0] for title in titles] == ["b1", "w1", "b2", "w2"]


@pytest.mark.parametrize("name", ["100%0A.yaml", "a:b,c=d.yaml", "::error ::x.yaml", "δ.yaml"])
def test_names_and_messages_come_through_as_they_are(name):
    complaint = Complaint(f"{name} is bad\nvery: 50%, bad", position=at(name, 1, 2))
    (error,) = read(Outcome(name, complaints=(complaint,)))
    assert error.properties == {"file": name, "line": "1", "col": "2", "title": "not checked"}
    assert error.message == complaint.message


def test_no_name_can_add_a_command_of_its_own():
    name = "a\r\n::add-mask::x"
    outcome = Outcome(name, report(comparison(name, [1.0], [2.0])))
    text = render("github", Run((outcome, outcome)), View())
    assert [line[:7] for line in text.splitlines() if line.startswith("::")] == ["::error"] * 2


def test_paths_are_relative_to_the_root_of_the_repository(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    places = {"output.bias": at("a.yaml", 5, 7)}
    (error,) = read(Outcome("a.yaml", report(WRONG), places=places), root=os.fspath(tmp_path))
    assert error.properties["file"] == "sub/a.yaml"


def test_standard_input_is_not_a_file():
    places = {"output.bias": at("<stdin>", 5, 7)}
    (error,) = read(Outcome("<stdin>", report(WRONG), places=places))
    assert error.properties == {"title": "output.bias: wrong gradient"}


def test_the_log_has_a_line_for_every_spec():
    outcomes = (Outcome("a.yaml", report(RIGHT)), Outcome("b.yaml", report(WRONG)))
    lines = render("github", Run(outcomes), View()).splitlines()
    first, second, last = [line for line in lines if not line.startswith("::")]
    assert first == "✓ a.yaml: agrees: all 3 entries."
    assert second.startswith("✗ b.yaml: wrong: 2 of 3 entries, in output.bias; the worst, output.bias[2], is")
    assert last == "2 specs: 1 agree, 1 wrong."


def test_a_strict_warning_says_what_is_missing():
    found = report(RIGHT, ZERO, strict=True)
    *_, warning = render("github", Run((Outcome("a.yaml", found),)), View()).splitlines()
    assert warning.startswith(f"::warning file=a.yaml,title={ZERO.name}%3A unresolved::")
    assert "every entry is 0 on both sides, so nothing was put to the test (--strict)" in warning
