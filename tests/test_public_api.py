from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import gradcheck_cli

HEAVY = {"numpy", "pydantic", "rich", "ruamel"}

AFTER_MAIN = """
import sys
from gradcheck_cli.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
print("loaded:", *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def python(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, encoding="utf-8"
    )


@pytest.mark.parametrize("name", gradcheck_cli.__all__)
def test_every_public_name_is_there(name):
    assert getattr(gradcheck_cli, name) is not None


def test_no_other_name_exists():
    with pytest.raises(AttributeError, match="no attribute 'grad_check'"):
        gradcheck_cli.grad_check  # noqa: B018 - the access is the test


def test_star_import_brings_exactly_the_public_names():
    done = python("from gradcheck_cli import *; print(*[n for n in dir() if n != '__builtins__'])")
    own = {"__annotations__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"}
    assert set(done.stdout.split()) - own == set(gradcheck_cli.__all__)


@pytest.mark.parametrize(
    "first", ["gradcheck_cli.cli", "gradcheck_cli.checker", "gradcheck_cli.explain.explain"]
)
def test_check_is_the_function_whatever_was_imported_first(first):
    done = python(f"import {first}; from gradcheck_cli import check; print(callable(check))")
    assert done.stdout == "True\n", done.stderr


def test_checking_a_spec_takes_two_calls(configs):
    report = gradcheck_cli.check(gradcheck_cli.load_spec(configs / "output_layer.yaml"))
    assert report.passed
    assert report.exit_code is gradcheck_cli.ExitCode.AGREES
    assert {comparison.verdict for comparison in report.comparisons} == {gradcheck_cli.Verdict.AGREES}


def test_importing_the_package_loads_nothing_heavy():
    done = python("import gradcheck_cli, sys; print(*sys.modules)")
    assert not HEAVY & {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["-h"], ["check", "--help"], ["explain", "-h"], [], ["check", "--no-such"]],
    ids=" ".join,
)
def test_help_version_and_usage_errors_load_nothing_heavy(arguments):
    done = python(AFTER_MAIN, *arguments)
    *_, last = done.stderr.splitlines()
    loaded = set(last.removeprefix("loaded:").split())
    assert {"click", "gradcheck_cli"} <= loaded
    assert not HEAVY & loaded


def test_a_check_loads_the_heavy_libraries(configs):
    done = python(AFTER_MAIN, "check", str(configs / "output_layer.yaml"))
    assert set(done.stderr.splitlines()[-1].split()) >= HEAVY


def test_both_script_names_are_the_same_command():
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert scripts["gradcheck"] == scripts["gradcheck-cli"] == "gradcheck_cli.__main__:main"


def test_the_package_says_that_it_is_typed():
    assert (Path(gradcheck_cli.__file__).parent / "py.typed").exists()
