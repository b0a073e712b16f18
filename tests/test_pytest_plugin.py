"""Specs in other projects' pytest runs: which files are collected, and how the results are reported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from textwrap import dedent

import pytest

import gradcheck_cli.pytest_plugin.specs  # noqa: F401 - or each run of pytest in here would load all of it again

pytest_plugins = ("pytester",)

PLAIN = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error")
"""Options that disable hypothesis, whose reporting would otherwise load in every run."""

HEAVY = {"click", "numpy", "pydantic", "rich", "ruamel"}

RIGHT = """\
network: {inputs: 3, layers: [{units: 4, activation: tanh}, {units: 2}], loss: mse}
data: {synthetic: normal, samples: 5}
"""

CODE = """\
import numpy as np

with open("loaded.txt", "a") as log:
    log.write("x")

def parameters():
    return {"w": np.arange(1.0, 4.0), "b": np.ones(2)}

def f(p, x, y):
    return 0.5 * (p["w"] ** 2).sum() + p["b"].sum(), {"w": p["w"] * [1, 1, 2], "b": np.ones(2)}
"""


class Project:
    """A folder in which pytest runs as in a project with the package installed.

    pytest runs in this process, unless it matters which modules a process has loaded: see `alone`.
    """

    def __init__(self, pytester):
        self.folder = pytester.path
        self._pytester = pytester

    def write(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")

    def pytest(self, *arguments):
        done = self._pytester.runpytest_inprocess(*PLAIN, *arguments)
        return subprocess.CompletedProcess(arguments, done.ret, str(done.stdout), str(done.stderr))

    def alone(self, *command):
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, "PYTHONUTF8": "1"},
        )

    def collected(self, *arguments):
        """Return the collected items by file."""
        listed = self.pytest("--collect-only", "-q", *arguments).stdout
        return sorted({line.split("::")[0] for line in listed.splitlines() if "::" in line})


@pytest.fixture
def project(pytester, monkeypatch):
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CI", "true")  # so that pytest writes whole lines
    return Project(pytester)


@pytest.fixture
def with_configs(project, configs):
    shutil.copytree(configs / "data", project.folder / "configs" / "data")
    for name in ("output_layer.yaml", "batch_norm.yaml", "wrong_gradient.yaml"):
        shutil.copy(configs / name, project.folder / "configs")
    return project


def test_pytest_finds_the_plugin():
    (plugin,) = (found for found in entry_points(group="pytest11") if found.name == "gradcheck")
    assert plugin.value == "gradcheck_cli.pytest_plugin"


# --- which files are specs -------------------------------------------------------------------------------


def test_a_folder_of_specs_is_checked_and_a_wrong_one_reported(with_configs):
    done = with_configs.pytest("configs")
    assert done.returncode == 1
    assert re.search(r"2 failed, \d+ passed", done.stdout)
    (line,) = re.findall(r"^FAILED configs/wrong_gradient.yaml::output.weight - (.*)", done.stdout, re.M)
    assert line.startswith("wrong: 50 of 500 entries, in output.weight; the worst, output.weight[3, ")
    assert "Traceback" not in done.stdout + done.stderr
    assert "gradcheck_cli" not in done.stdout


def test_without_options_it_collects_only_files_with_its_own_ending(with_configs):
    assert with_configs.collected() == []
    with_configs.write("nets/a.gradcheck.yaml", RIGHT)
    with_configs.write("nets/b.gradcheck.yml", RIGHT)
    assert with_configs.collected() == ["nets/a.gradcheck.yaml", "nets/b.gradcheck.yml"]


def test_in_a_named_folder_other_files_are_ignored(project):
    project.write("configs/right.yaml", RIGHT)
    project.write("configs/compose.yaml", "services: {web: {image: nginx}}\nnetworks: {}\n")
    project.write("configs/latin1.yaml", "")
    (project.folder / "configs" / "latin1.yaml").write_bytes(b"network: \xe9\n")
    assert project.collected("configs") == ["configs/right.yaml"]


def test_a_named_file_is_a_spec_whatever_it_contains(project):
    project.write("net.yaml", "layers: 3\n")
    done = project.pytest("net.yaml")
    assert "net.yaml:1:1: error: " in done.stdout


def test_folders_where_tests_are_looked_for_anyway_are_not_searched(project):
    project.write("pytest.ini", "[pytest]\ntestpaths = tes*\n")
    project.write("tests/fixture.yaml", RIGHT)
    project.write("more/net.yaml", RIGHT)
    assert project.collected() == project.collected("tests") == project.collected(".") == []
    assert project.collected("more") == ["more/net.yaml"]


def test_patterns_of_the_project_replace_all_guesses(project):
    project.write("pytest.ini", "[pytest]\ngradcheck_files = nets/*.yaml *.spec.yml\n")
    for name in ("nets/a.yaml", "b.spec.yml", "c.gradcheck.yaml", "other/d.yaml"):
        project.write(name, RIGHT)
    assert project.collected() == ["b.spec.yml", "nets/a.yaml"]
    assert project.collected("other") == []
    assert project.collected("other/d.yaml") == ["other/d.yaml"]


def test_nothing_heavy_is_imported_before_there_is_a_spec(project):
    project.write("test_it.py", "def test_it(): pass")
    project.write("net.yaml", RIGHT)
    project.write(
        "conftest.py",
        """
        import sys

        def pytest_sessionfinish():
            print("loaded:", *{name.split(".")[0] for name in sys.modules})
        """,
    )
    (loaded,) = re.findall(r"loaded:(.*)", project.alone("pytest", *PLAIN, "-s").stdout)
    assert "gradcheck_cli" in loaded.split()
    assert not HEAVY & set(loaded.split())


# --- what is said of them --------------------------------------------------------------------------------


def test_every_tensor_is_a_separate_item(project):
    project.write("net.yaml", RIGHT)
    done = project.pytest("net.yaml", "-v", "-k", "output or (hidden1 and bias)")
    passed = re.findall(r"^net.yaml::(\S+) PASSED", done.stdout, re.M)
    assert passed == ["output.weight", "output.bias", "hidden1.bias"]
    assert "1 passed" in project.pytest("net.yaml::hidden1.weight").stdout


def test_a_failure_reads_like_the_commands_output(project):
    project.write("my_net.py", CODE)
    project.write("net.yaml", "gradients: {python: my_net.py:f}\ncheck: {parameters: w}\n")
    said = project.alone("gradcheck_cli", "check", "net.yaml").stdout
    assert "w[2]" in said
    assert said in project.pytest("net.yaml").stdout


def test_a_spec_is_checked_once_for_all_its_tensors(project):
    project.write("my_net.py", CODE)
    project.write("net.gradcheck.yaml", "gradients: {python: my_net.py:f}\n")
    done = project.pytest()
    assert "1 failed, 1 passed" in done.stdout
    assert (project.folder / "loaded.txt").read_text() == "xx"  # once for the names, once for the check


def test_unresolved_tensors_do_not_pass(project):
    project.write("net.py", "def f(p, x, y):\n    return 0.0, {'w': [0.0]}\n\nparameters = {'w': [1.0]}\n")
    project.write("net.yaml", "gradients: {python: net.py:f}\n")
    done = project.pytest("net.yaml")
    assert done.returncode == 1
    assert "FAILED net.yaml::w - unresolved: every gradient is 0 on both sides" in done.stdout


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("network: {inputs: 2\n", "net.yaml:1:20: error: this is not YAML"),
        (RIGHT + "chek: {}\n", "net.yaml:3:1: error: unknown key 'chek'"),
        (RIGHT.replace("synthetic: normal, samples: 5", "file: no.npz"), "net.yaml:2:14: error: there is no"),
        (RIGHT + "check: {parameters: outptu.*}\n", "error: 'outptu.*' matches no parameter"),
        ("gradients: {python: net.py:f}\n", "error: f of net.py raises KeyError at net.py:1: 'w'"),
    ],
)
def test_a_spec_that_cannot_be_checked_is_one_test_that_fails_and_others_go_on(project, written, said):
    project.write("net.py", "def f(p, x, y): p['w']\nparameters = {'v': [1.0]}\n")
    project.write("net.yaml", written)
    project.write("right.yaml", RIGHT)
    done = project.pytest("net.yaml", "right.yaml")
    assert done.returncode == 1
    assert re.search(r"1 failed, [1-9] passed", done.stdout)
    assert "FAILED net.yaml::spec" in done.stdout
    assert said in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_code_that_fails_only_when_differenced_fails_with_a_message(project):
    project.write(
        "net.py",
        """
        parameters = {"w": [1.0]}

        def f(p, x, y):
            return 1.0 / (p["w"][0] == 1.0).astype(int).item(), {"w": [0.0]}
        """,
    )
    project.write("net.yaml", "gradients: {python: net.py:f}\n")
    done = project.pytest("net.yaml")
    assert done.returncode == 1
    assert (
        "net.yaml:1:21: error: with slightly changed parameters, f of net.py raises ZeroDivision"
        in done.stdout
    )
    assert "gradcheck_cli" not in done.stdout


def test_a_defect_of_gradcheck_shows_where_it_is(project):
    project.write("net.yaml", RIGHT)
    project.write(
        "conftest.py", "import gradcheck_cli.pytest_plugin.specs as us\n\nus.check = lambda spec: 1 // 0"
    )
    done = project.alone("pytest", *PLAIN, "net.yaml")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    assert os.path.join("pytest_plugin", "specs.py") in done.stdout


def test_it_does_not_matter_where_other_tests_have_gone(project):
    project.write("a_net/net.yaml", "gradients: {python: net.py:f}\ncheck: {parameters: b}\n")
    project.write("a_net/net.py", CODE)
    project.write("a_first/test_it.py", "import os\n\ndef test_it(tmp_path):\n    os.chdir(tmp_path)\n")
    assert "2 passed" in project.pytest("a_first", "a_net/net.yaml").stdout


def test_a_report_for_machines_has_the_verdict_as_its_message(project):
    project.write("net.py", CODE)
    project.write("net.yaml", "gradients: {python: net.py:f}\n")
    project.pytest("net.yaml", "--junit-xml", "report.xml")
    assert 'message="wrong: 1 of 3 entries, in w;' in (project.folder / "report.xml").read_text("utf-8")


@pytest.mark.skipif(find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_several_processes_say_the_same(with_configs):
    done = with_configs.alone("pytest", *PLAIN, "-n2", "configs")
    assert re.search(r"2 failed, \d+ passed", done.stdout)
    assert "the worst, output.weight[3, " in " ".join(done.stdout.split())


def test_no_name_of_a_tensor_steers_the_terminal(project):
    name = "\x1b]0;OWNED\x07\n\u202e::error::x"
    project.write("net.py", CODE.replace('"w":', f"{name!r}:").replace('p["w"]', f"p[{name!r}]"))
    project.write("net.gradcheck.yaml", "gradients: {python: net.py:f}\n")
    done = project.pytest("-v", "-rA")
    assert r"\x1b]0;OWNED\x07\n\u202e::error::x" in done.stdout
    assert not re.search(r"[\x1b\x07\u202e]|^\s*::", done.stdout, re.MULTILINE)
