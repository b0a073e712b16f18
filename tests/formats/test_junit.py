from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, TestCase
from reports import EVERY_KIND, HALF_KNOWN, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report

from gradcheck_cli.errors import Complaint, ExitCode, Position
from gradcheck_cli.formats import View, render
from gradcheck_cli.formats.glyphs import escaped
from gradcheck_cli.report import Outcome, Report, Run
from gradcheck_cli.verdict import Verdict


def read(*outcomes: Outcome, **view) -> JUnitXml:
    return JUnitXml.fromstring(render("junit", Run(outcomes), View(**view)).encode("utf-8"))


def cases(xml: JUnitXml) -> Iterator[TestCase]:
    return (case for suite in xml for case in suite)


def failures(whole: Report) -> dict[str, str]:
    """Return the type of failure of each tensor that has one."""
    xml = read(Outcome("net.yaml", whole))
    return {case.name: case.result[0].type for case in cases(xml) if case.result}


def test_a_case_for_every_tensor_in_a_suite_for_every_spec():
    xml = read(Outcome("a.yaml", report(RIGHT, WRONG)), Outcome("b.yaml", report(RIGHT)))
    assert [suite.name for suite in xml] == ["a.yaml", "b.yaml"]
    assert [(case.classname, case.name, case.is_passed) for case in cases(xml)] == [
        ("a.yaml", "output.weight", True),
        ("a.yaml", "output.bias", False),
        ("b.yaml", "output.weight", True),
    ]


def test_a_wrong_tensor_is_a_failure_that_says_what_and_where_and_why():
    place = Position("net.yaml", 5, 7, "")
    outcome = Outcome("net.yaml", report(WRONG, diagnosis=diagnosis()), places={"output.bias": place})
    ((failure,),) = (case.result for case in cases(read(outcome)))
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == ("wrong", "output.bias: 2 of 3 entries are wrong")
    assert failure.text.splitlines() == [
        "output.bias: 2 of 3 entries are wrong",
        "  output.bias[2] is 3e-07; finite differences give 6e-07 ± 1e-12 (relative error 5.0e-01)",
        "  output.bias[1] is -2; finite differences give -2.5 ± 1e-12 (relative error 2.0e-01)",
        "Why: the activation's derivative is missing from δ of layer output.",
        "  wrong: δ = ∂L/∂a   (see ∂a/∂z in gradcheck explain)",
        "  right: δ = ∂L/∂a · a (1 − a)",
        "  This explanation reproduces every entry, up to rounding.",
        "net.yaml:5:7",
    ]


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (report(RIGHT), {}),
        (report(RIGHT, UNKNOWN), {"hidden1.bias": "unresolved"}),
        (report(WRONG, UNKNOWN), {"output.bias": "wrong", "hidden1.bias": "unresolved"}),
        (report(HALF_KNOWN), {}),
        (report(RIGHT, HALF_KNOWN, strict=True), {"hidden1.bias": "unresolved"}),
        (report(RIGHT, ZERO), {}),
        (report(ZERO), {"hidden1.weight": "unresolved"}),
    ],
    ids=["right", "unknown", "wrong", "noisy", "strict", "right and zero", "zero"],
)
def test_undecided_tensors_are_not_a_pass(whole, expected):
    assert failures(whole) == expected
    assert bool(expected) == (whole.verdict is not Verdict.AGREES)


@pytest.mark.parametrize(
    ("failure", "kind"), [(ExitCode.BAD_INPUT, "bad input"), (ExitCode.DEFECT, "defect")]
)
def test_a_spec_that_could_not_be_checked_is_an_error(failure, kind):
    place = Position("a.yaml", 3, 5, "  x: y")
    complaint = Complaint("unknown key", help="did you mean 'key'?", position=place)
    outcome = Outcome("a.yaml", complaints=(complaint, Complaint("no")), failure=failure)
    ((error,),) = (case.result for case in cases(read(outcome)))
    assert isinstance(error, Error)
    assert (error.type, error.message) == (kind, "unknown key")
    assert error.text == f"{complaint}\nerror: no"


def test_a_spec_that_failed_without_a_complaint_is_an_error_with_a_body():
    ((error,),) = (case.result for case in cases(read(Outcome("a.yaml"))))
    assert error.text == "not checked"


def test_counts_and_times_add_up():
    outcomes = [Outcome(f"{i}.yaml", report(each), seconds=0.5) for i, each in enumerate(EVERY_KIND)]
    xml = read(*outcomes, Outcome("bad.yaml", complaints=(Complaint("no"),), seconds=0.25))
    counted = [sum(getattr(suite, what) for suite in xml) for what in ("tests", "failures", "errors")]
    assert counted == [xml.tests, xml.failures, xml.errors]
    assert (xml.errors, xml.tests) == (1, len(EVERY_KIND) + 1)
    assert xml.time == pytest.approx(len(EVERY_KIND) * 0.5 + 0.25)
    assert sum(case.time for case in cases(xml)) == pytest.approx(xml.time)


def test_a_tensor_has_its_share_of_the_specs_time():
    two = read(Outcome("a.yaml", report(RIGHT, comparison("w", [1.0] * 9, [1.0] * 9)), seconds=1.2))
    assert [case.time for case in cases(two)] == pytest.approx([0.3, 0.9])


def test_a_spec_that_is_checked_twice_has_a_name_of_its_own_each_time():
    xml = read(*[Outcome("a.yaml", report(RIGHT, WRONG))] * 3)
    names = [(case.classname, case.name) for case in cases(xml)]
    assert len(set(names)) == len(names) == 6
    assert [suite.name for suite in xml] == ["a.yaml", "a.yaml (2)", "a.yaml (3)"]


def files(root: Path | str, *specs: str) -> list[str | None]:
    outcomes = [Outcome(spec, report(RIGHT)) for spec in specs]
    text = render("junit", Run(tuple(outcomes)), View(root=os.fspath(root)))
    return [case.get("file") for case in ElementTree.fromstring(text).iter("testcase")]


def test_files_are_relative_to_the_root_of_the_repository(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    within = str(tmp_path / "sub" / "a.yaml")
    assert files(tmp_path, "a.yaml", "./a.yaml", within, "../b.yaml") == [*["sub/a.yaml"] * 3, "b.yaml"]
    assert files("", "a.yaml", within) == ["a.yaml", "a.yaml"]


def test_files_elsewhere_keep_their_names_and_standard_input_has_none(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    outside = (tmp_path / "a.yaml").as_posix()
    assert files(tmp_path / "sub", "a.yaml", outside, "<stdin>") == ["a.yaml", outside, None]


@pytest.mark.parametrize("name", ["\x1b[0m\x00", "\udcff", "\ufffe", "<&>\"'", "]]>", "a\r\nb", "δ 𝛿"])
def test_no_name_breaks_the_xml(name):
    outcome = Outcome(name, report(comparison(name, [1.0], [2.0])))
    refused = Outcome("bad.yaml", complaints=(Complaint(name, help=name),))
    (case, error) = cases(read(outcome, refused))
    assert case.name == case.classname
    assert case.result[0].text.startswith(escaped(case.name))
    assert error.result[0].message
    if name.isprintable():
        assert case.name == name


def test_every_byte_is_ascii_so_that_no_encoding_is_the_wrong_one():
    whole = report(WRONG, diagnosis=diagnosis())
    assert render("junit", Run((Outcome("δ.yaml", whole),)), View()).isascii()


def test_as_many_of_the_worst_entries_as_asked_for():
    tensor = comparison("w", [1.0] * 9, [2.0] * 9)
    for show, lines in ((0, 3), (5, 5), (100, 9)):
        ((failure,),) = (case.result for case in cases(read(Outcome("a.yaml", report(tensor)), show=show)))
        assert failure.text.count("finite differences give") == lines
