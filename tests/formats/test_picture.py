"""A sweep's plot as an image file. Drawing needs matplotlib; refusing does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from build import spec_of

from gradcheck_cli import InputError
from gradcheck_cli.files.output import Output
from gradcheck_cli.formats.sweep import picture
from gradcheck_cli.formats.sweep.picture import ENDINGS, marker_of, refuse_unwritable, save
from gradcheck_cli.numerical.schemes import plain_schemes
from gradcheck_cli.sweep.sweep import Sweep, sweep

SPECS = {
    "right": spec_of((4, "tanh"), (3, "sigmoid")),
    "kinked": spec_of((8, "relu"), (3, "identity"), samples=20),
    "float32": spec_of((4, "tanh"), (3, "sigmoid"), dtype="float32"),
    "nothing": spec_of((2, "relu"), (2, "relu"), parameters={"init": "zeros"}),
}
BEGINS = {".svg": b"<?xml", ".png": b"\x89PNG"}


def to(file: str | Path) -> Output:
    return Output("--save", str(file))


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def swept() -> Sweep:
    return sweep(SPECS["right"])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", SPECS)
def test_a_picture_is_written(ending, name, matplotlib, tmp_path):
    save(to(tmp_path / f"sweep{ending}"), "$net_日本.yaml", sweep(SPECS[name]))
    assert (tmp_path / f"sweep{ending}").read_bytes().startswith(BEGINS[ending])
    assert os.listdir(tmp_path) == [f"sweep{ending}"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_sweep_is_the_same_file(ending, matplotlib, swept, tmp_path):
    files = [tmp_path / f"{name}{ending}" for name in "ab"]
    for file in files:
        save(to(file), "net.yaml", swept)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_file_of_the_same_name_is_replaced_through_a_link(matplotlib, swept, tmp_path):
    (tmp_path / "real.png").write_text("old")
    (tmp_path / "link.png").symlink_to("real.png")
    save(to(tmp_path / "link.png"), "net.yaml", swept)
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(BEGINS[".png"])


def test_a_failure_leaves_the_old_file_and_nothing_else(matplotlib, swept, tmp_path, monkeypatch):
    file = tmp_path / "sweep.png"
    file.write_text("old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"--save: '.*' cannot be written: No space left on device"):
        save(to(file), "net.yaml", swept)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["sweep.png"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sweep.jpg", r"neither an \.svg nor a \.png"),
        ("sweep", r"neither an \.svg nor a \.png"),
        ("", r"neither an \.svg nor a \.png"),
        ("folder.png", "is a folder"),
        ("missing/sweep.png", "does not exist"),
        pytest.param(f"{'x' * 5000}.png", "cannot be written: File name too long", id="long"),
        ("pipe.png", "is a pipe or device"),
    ],
)
def test_an_unwritable_picture_is_refused(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=f"--save: .*{said}"):
        refuse_unwritable(to(name))


def test_a_folder_nobody_may_write_to_is_refused(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        refuse_unwritable(to(tmp_path / "sweep.png"))


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(picture, "import_module", missing)
    with pytest.raises(InputError, match=r"needs the package matplotlib(.|\n)*help: pip install matplotlib"):
        refuse_unwritable(to(tmp_path / "sweep.svg"))


def test_every_scheme_has_a_marker_of_its_own():
    assert len({marker_of(name) for name in plain_schemes()}) == len(plain_schemes())
