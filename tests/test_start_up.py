"""Modules load only when needed, because most of the time of a small check is spent on start-up."""

from __future__ import annotations

import gc
import subprocess
import sys
from functools import cache

import pytest
from paths import ROOT

from gradcheck_cli import __main__ as command
from gradcheck_cli.spec.layers import KINDS

CHECKED = """
from gradcheck_cli import cli
try:
    cli.main(["check", "configs/{spec}", "--color", "never"])
except SystemExit as left:
    assert left.code == {code}
"""

GIVEN = """
import numpy as np
from gradcheck_cli import check_gradients
check_gradients(lambda w: ((w ** 2).sum(), 2 * w), np.ones(3))
"""

UNUSED = """
import gc
from gradcheck_cli.spec.file import load_spec
from gradcheck_cli.spec.model import Model
models = [each for each in gc.get_objects() if isinstance(each, type) and issubclass(each, Model)]
assert len(models) > 10
assert not [model for model in models if model.__dict__["__pydantic_complete__"]]
"""

OF_CODE = (
    "code.objective",
    "code.python_source",
    "code.torch_module",
    "code.pool",
    "directions.check",
    "parallel.executors",
)


@cache
def loaded_by(program: str) -> set[str]:
    """Return the modules that a process has loaded after running the program."""
    script = f"{program}\nimport sys\nprint('', *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def own(*names: str) -> set[str]:
    return {f"gradcheck_cli.{name}" for name in names}


@pytest.fixture(scope="module")
def by_a_right_spec() -> set[str]:
    return loaded_by(CHECKED.format(spec="output_layer.yaml", code=0))


def test_a_right_gradient_loads_no_diagnosis(by_a_right_spec):
    assert "gradcheck_cli.checker" in by_a_right_spec
    assert not [name for name in by_a_right_spec if name.startswith("gradcheck_cli.diagnose")]


def test_a_wrong_gradient_loads_the_diagnosis():
    assert "gradcheck_cli.diagnose.search" in loaded_by(CHECKED.format(spec="wrong_gradient.yaml", code=1))


def test_a_network_loads_nothing_that_code_needs(by_a_right_spec):
    assert not by_a_right_spec & own(*OF_CODE)
    assert own("code.objective") < loaded_by(GIVEN)


def test_a_spec_loads_only_the_kinds_of_layers_that_it_contains(by_a_right_spec):
    others = {home.split(".")[0] for home in KINDS.homes.values()} - {"parametric"}
    assert not by_a_right_spec & own(*(f"spec.layers.{module}" for module in others))
    assert not by_a_right_spec & own("network.composed.recurrent", "network.steps.pooling")


def test_a_validator_is_built_when_a_spec_needs_it():
    assert "gradcheck_cli.spec.spec" in loaded_by(UNUSED)


def test_a_spec_without_files_loads_no_reader_of_files(by_a_right_spec):
    assert not by_a_right_spec & own("arrays.named_arrays", "arrays.npy", "gradients.array_file")


def test_a_table_loads_no_pictures(by_a_right_spec):
    assert not by_a_right_spec & {"gradcheck_cli.formats.heatmap", "numpy.ma"}


@pytest.mark.parametrize(
    "program", [GIVEN, "import gradcheck_cli.pytest_plugin.specs"], ids=["testing", "pytest"]
)
def test_the_library_loads_no_command_line(program):
    loaded = loaded_by(program)
    assert "gradcheck_cli.subject.subject" in loaded
    assert not loaded & {"click", "rich", "gradcheck_cli.cli"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_load_neither_numpy_nor_pydantic(option):
    program = f"from gradcheck_cli import cli\ntry:\n    cli.main([{option!r}])\nexcept SystemExit:\n    pass"
    assert not loaded_by(program) & {"numpy", "pydantic", "rich", "ruamel.yaml"}


def test_garbage_collection_resumes_after_loading():
    usual, others = gc.get_threshold(), list(gc.callbacks)
    command.put_off_garbage()
    try:
        assert gc.get_threshold()[0] > 100 * usual[0]
    finally:
        gc.collect()
    assert (gc.get_threshold(), gc.callbacks) == (usual, others)


@pytest.mark.slow
def test_a_torch_module_that_compiles_nothing_does_not_load_the_compiler():
    pytest.importorskip("torch")
    program = "from gradcheck_cli import check, load_spec\ncheck(load_spec('tests/examples/torch_net.yaml'))"
    assert "torch._dynamo" not in loaded_by(program)
