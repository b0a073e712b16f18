"""Output files are refused before the work begins, and are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.files.output import Output


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str = "new") -> None:
    with Output("--save", path).whole() as new:
        new.write_text(text)


def write_half(path: str, error: BaseException) -> None:
    with Output("--save", path).whole() as new:
        new.write_text("half")
        raise error


@pytest.mark.parametrize("name", ["a", "new", "old", "x" * 255])
def test_a_file_is_created_or_replaced_and_keeps_its_mode(here, name):
    write(name, "first")
    os.chmod(name, 0o640)
    write(name, "second")
    assert Path(name).read_text() == "second"
    assert Path(name).stat().st_mode & 0o777 == 0o640
    assert os.listdir(here) == [name]


def test_a_link_is_followed(here):
    Path("real").write_text("old")
    Path("link").symlink_to("real")
    write("link")
    assert Path("link").is_symlink()
    assert Path("real").read_text() == "new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_what_was_there(here, error):
    Path("a").write_text("old")
    with pytest.raises((InputError, KeyboardInterrupt)):
        write_half("a", error)
    assert Path("a").read_text() == "old"
    assert os.listdir(here) == ["a"]


@pytest.mark.parametrize("folder", ["f", "x" * 255])
def test_the_files_of_a_folder_replace_those_of_the_same_names(here, folder):
    Path(folder).mkdir()
    for name in "ab":
        Path(folder, name).write_text("old")
    with Output("--output", folder).whole() as new:
        new.mkdir()
        for name in "bc":
            (new / name).write_text("new")
    assert {path.name: path.read_text() for path in Path(folder).iterdir()} == {
        "a": "old",
        "b": "new",
        "c": "new",
    }


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder", "is a folder; a file is needed"),
        ("no/such", "no' does not exist"),
        ("file/x", "file' does not exist"),
        ("x" * 300, "cannot be written: File name too long"),
        (f"{'x' * 300}/y", "does not exist"),
        ("x" * 5000, "cannot be written: File name too long"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_cannot_be_written_is_refused(here, path, reason):
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(InputError) as refused:
        Output("--save", path).refuse_file("a file is needed")
    assert str(refused.value).startswith("error: --save: ")
    assert reason in str(refused.value)
    assert sorted(os.listdir(here)) == ["file", "folder"]
