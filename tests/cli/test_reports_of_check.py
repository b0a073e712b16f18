"""A check leaves its reports whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from command_specs import (
    CODES,
    strict,
)
from processes import POSIX, run

from gradcheck_cli.formats import FORMATS


@pytest.fixture(autouse=True)
def no_ci(monkeypatch) -> None:
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("spec", "code"), CODES.items())
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_can_be_printed_and_be_a_report(format, spec, code, folder, gradcheck):
    printed = gradcheck("check", spec, "--format", format)
    assert printed.code == code
    done = gradcheck("check", spec, "--report", f"{format}=out")
    assert (done.code, done.out) == (code, gradcheck("check", spec).out)
    assert without_times((folder / "out").read_text("utf-8")) == without_times(printed.out)


def without_times(text: str) -> str:
    return re.sub(r'(time=|"seconds": |<li>)"?[\d.e-]+', "", text)


def test_one_run_prints_a_table_and_leaves_its_reports(folder, gradcheck):
    (folder / "sub").mkdir()
    reports = [word for format in FORMATS for word in ("--report", f"{format}=sub/{format}")]
    done = gradcheck("check", "good.yaml", "wrong.yaml", *reports)
    assert done.code == 1
    assert done.out == gradcheck("check", "good.yaml", "wrong.yaml").out
    assert {path.name for path in (folder / "sub").iterdir()} == set(FORMATS)
    assert {path.suffix for path in folder.iterdir()} == {".yaml", ".npz", ""}  # no temporary file


@pytest.mark.parametrize("options", [["-q"], ["--color", "always"]], ids=" ".join)
def test_the_terminals_settings_do_not_affect_a_report(options, folder, gradcheck, monkeypatch):
    gradcheck("check", "wrong.yaml", "--report", "table=plain")
    monkeypatch.setenv("COLUMNS", "40")
    gradcheck("check", "wrong.yaml", "--report", "table=out", *options)
    assert (folder / "out").read_bytes() == (folder / "plain").read_bytes()


def test_a_report_has_as_many_entries_as_requested(folder, gradcheck):
    gradcheck("check", "wrong.yaml", "--show", "2", "-v", "--report", "table=out")
    assert (folder / "out").read_text("utf-8").count(" wrong\n") == 3
    assert "witness: " in (folder / "out").read_text("utf-8")


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ("juint=out", "unknown format 'juint'; choose one of table, "),
        ("juint=out", "help: did you mean 'junit'?"),
        ("out.xml", "'out.xml' must be FORMAT=FILE, such as junit=report.xml"),
        ("junit=", "'junit=' names no file"),
        ("junit=-", "help: --format junit prints it"),
        ("junit=no/such/out", "does not exist"),
        ("junit=good.yaml/out", "does not exist"),
        ("junit=.", "'.' is a folder"),
        ("junit=good.yaml", "'good.yaml' is a spec"),
        ("junit=" + "a" * 300, "File name too long"),
    ],
)
def test_an_impossible_report_is_refused_before_the_work(report, says, folder, gradcheck, broken):
    broken(AssertionError("checked"))
    before = sorted(folder.iterdir())
    done = gradcheck("check", "broken.yaml", "good.yaml", "--report", report)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --report: ")
    assert says in done.err
    assert sorted(folder.iterdir()) == before


@POSIX
def test_a_device_is_not_a_valid_report(gradcheck):
    done = gradcheck("check", "good.yaml", "--report", "junit=/dev/null")
    assert done.code == 2
    assert "'/dev/null' is a pipe or device" in done.err
    assert not os.path.isfile("/dev/null")


@POSIX
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everything")
@pytest.mark.parametrize("protected", [".", "out"])
def test_a_report_that_may_not_be_written_is_refused_before_the_work(protected, folder, gradcheck):
    (folder / "out").touch()
    (folder / protected).chmod(0o500)
    try:
        done = gradcheck("check", "good.yaml", "--report", "junit=out")
    finally:
        (folder / protected).chmod(0o700)
    assert (done.code, done.out) == (2, "")
    assert "'out' cannot be written: Permission denied" in done.err


@POSIX
def test_all_errors_in_reports_are_reported_at_once(folder, gradcheck):
    os.symlink("out", folder / "link")
    done = gradcheck("check", "good.yaml", *("--report", "x"), *("--report", "html5=y"),
                     *("--report", "json=out"), *("--report", "junit=./link"))  # fmt: skip
    assert done.code == 2
    assert done.err.count("error: --report: ") == 3
    assert "'./link' is another report's file; each report needs a file of its own" in done.err


@POSIX
def test_a_report_replaces_the_last_one_through_a_link_and_keeps_its_mode(folder, gradcheck):
    (folder / "out").write_text("{}")
    (folder / "out").chmod(0o640)
    os.symlink("out", folder / "link")
    assert gradcheck("check", "good.yaml", "--report", "json=link").code == 0
    assert (folder / "link").is_symlink()
    assert strict((folder / "out").read_text())["exit_code"] == 0
    assert (folder / "out").stat().st_mode & 0o777 == 0o640


OLD = {"a": "<testsuites/>", "b": "{}"}


@pytest.mark.parametrize(("spec", "code"), [("good.yaml", 2), ("wrong.yaml", 2)])
def test_a_report_that_fails_at_the_end_is_reported_and_leaves_the_table_and_the_last_one(
    spec, code, folder, gradcheck, monkeypatch
):
    for name, old in OLD.items():
        (folder / name).write_text(old)
    table = gradcheck("check", spec).out
    write = Path.write_text

    def full(path: Path, text: str, **how: str) -> int:
        if path.name == "a":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text, **how)

    monkeypatch.setattr(Path, "write_text", full)
    done = gradcheck("check", spec, "--report", "junit=a", "--report", "json=b")
    assert (done.code, done.out) == (code, table)
    assert done.err == "error: --report: 'a' cannot be written: No space left on device\n"
    assert (folder / "a").read_text() == OLD["a"]
    assert strict((folder / "b").read_text())["version"] == 1
    assert not list(folder.glob(".gradcheck-*"))


def test_an_interrupted_check_leaves_no_report(folder, gradcheck, broken):
    broken(KeyboardInterrupt())
    assert gradcheck("check", "broken.yaml", "--report", "junit=out").code == 130
    assert not (folder / "out").exists()


@POSIX
def test_a_reader_that_has_left_takes_no_report_with_it(folder, unread):
    done = run("check", "wrong.yaml", "--report", "json=out", capture_output=False, stdout=unread)
    assert done.returncode == 1
    assert strict((folder / "out").read_text())["exit_code"] == 1


def test_annotations_point_at_the_wrong_layer_and_at_every_error(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    commands = [
        line for line in gradcheck("check", ".", "--format", "github").out.splitlines() if line[:2] == "::"
    ]
    assert [command.split("::")[1] for command in commands] == [
        f"error file={folder.name}/bad.yaml,line=4,col=18,title=not checked",
        f"error file={folder.name}/wrong.yaml,line=5,col=7,title=output.bias%3A wrong gradient",
        *[
            f"warning file={folder.name}/undecided.yaml,line={line},col=7,title={layer}.{kind}%3A unresolved"
            for line, layer in ((5, "output"), (4, "hidden1"))
            for kind in ("weight", "bias")
        ],
    ]


def test_junit_names_files_relative_to_the_root_of_the_project(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("CI_PROJECT_DIR", str(folder.parent))
    assert f' file="{folder.name}/good.yaml"' in gradcheck("check", "good.yaml", "--format", "junit").out


@pytest.mark.parametrize(
    ("options", "appended"),
    [
        ([], False),
        (["--format", "json"], False),
        (["--format", "github"], True),
        (["--format", "markdown"], True),
        (["--report", "markdown=out"], True),
        (["--report", "github=out", "-q"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_job_summary_gets_markdown_if_a_github_format_is_requested(
    options, appended, folder, gradcheck, monkeypatch
):
    markdown = gradcheck("check", "wrong.yaml", "--format", "markdown").out
    (folder / "summary").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    assert gradcheck("check", "wrong.yaml", *options).code == 1
    expected = "before\n" + (markdown if appended else "")
    assert (folder / "summary").read_text("utf-8") == expected


def test_a_summary_that_cannot_be_written_is_no_reason_to_fail(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/summary")
    done = gradcheck("check", "good.yaml", "--format", "github")
    assert done.code == 0
    assert done.err.startswith("note: nothing was added to GITHUB_STEP_SUMMARY: ")


@pytest.mark.parametrize(("room", "begins"), [(0, ""), (100, "- ✓ good"), (5000, "### ✓ good")])
def test_a_summary_has_no_more_than_github_takes(room, begins, folder, gradcheck, monkeypatch):
    (folder / "summary").write_text("x" * (2**20 - room))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    assert gradcheck("check", "good.yaml", "--format", "github").code == 0
    added = (folder / "summary").read_text("utf-8").lstrip("x")
    assert len(added.encode()) <= room
    assert added.startswith(begins)
    assert bool(added) == bool(begins)
