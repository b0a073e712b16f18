"""The wheel and the sdist contain the right files, and the wheel runs in an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from paths import ROOT

import gradcheck_cli

pytest.importorskip("build")
pytest.importorskip("twine")

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = gradcheck_cli.__version__
STEM = f"gradcheck_cli-{VERSION}"


def run(*command: object, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(folder):
    return folder / f"{STEM}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist_names(folder):
    with tarfile.open(folder / f"{STEM}.tar.gz") as archive:
        return {member.name.removeprefix(f"{STEM}/") for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("without git nothing says which files belong to the repository")
    return set(run("git", "ls-files").splitlines())


def test_twine_finds_nothing_to_complain_about(folder, wheel):
    run(sys.executable, "-m", "twine", "check", "--strict", folder / f"{STEM}.tar.gz", wheel)


def test_the_wheel_holds_the_package_and_its_metadata_alone(wheel, tracked):
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in names if name.startswith(f"{STEM}.dist-info/")}
    assert names - metadata == {name for name in tracked if name.startswith("gradcheck_cli/")}
    assert {"gradcheck_cli/py.typed", f"{STEM}.dist-info/licenses/LICENSE"} <= names


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{STEM}.dist-info/METADATA"))
        scripts = archive.read(f"{STEM}.dist-info/entry_points.txt").decode()
    assert (metadata["Name"], metadata["Version"]) == ("gradcheck-cli", VERSION)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().startswith("# gradcheck")
    assert set(metadata.get_all("Classifier")) == set(PROJECT["project"]["classifiers"])
    assert "gradcheck = gradcheck_cli.__main__:main" in scripts


def test_the_sdist_holds_what_is_listed_and_nothing_that_git_does_not(sdist_names, tracked):
    listed = {name.strip("/") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    always = {"PKG-INFO", "pyproject.toml", ".gitignore"}
    assert {name.split("/")[0] for name in sdist_names} == listed | always
    assert sdist_names - tracked == {"PKG-INFO"}


def test_the_wheel_runs_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "empty")
    scripts = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python")
    run(*pip, "install", "--quiet", "--no-compile", wheel)
    assert run(scripts / "gradcheck", "--version").split()[-1] == VERSION
    checked = run(scripts / "gradcheck", "check", ROOT / "configs" / "output_layer.yaml", cwd=tmp_path)
    assert "agrees" in checked
