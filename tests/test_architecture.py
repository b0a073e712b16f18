"""Check the import table of the design; a gradient check relies on the independence of its two sides."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gradcheck_cli

PACKAGE = Path(gradcheck_cli.__file__).parent

# A module may import only the modules and folders named here. Imports go downward only.
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "pages": set(),
    "numerical": {"numerical", "errors"},
    # The tables whose names a spec may use.
    "spec": {
        "errors",
        "model.activations",
        "model.losses",
        "model.parameters",
        "model.penalties",
        "numerical.schemes",
    },
    "schema": {"", "spec"},
    "starters": set(),
    "spec_errors": {"spec", "errors"},
    "spec_file": {"spec", "spec_errors", "errors"},
    "network": {
        "network",
        "model.special",
        "model.activations",
        "model.losses",
        "model.penalties",
        "model.row_rounding",
    },
    # A network whose numbers can be perturbed: it never sees a derivative.
    "moving": {
        "moving",
        "model.activations",
        "model.penalties",
        "model.row_rounding",
        "network.arithmetic",
        "network.graph",
        "network.loss_rounding",
        "network.network",
        "network.rounding",
        "network.step",
        "network.steps",
        "numerical.objective",
    },
    "model": {"model", "moving.objective", "network", "numerical.objective", "spec", "errors"},
    "sources": {"sources", "model", "moving.objective", "network", "numerical.objective", "spec", "errors"},
    "compare": {"numerical"},
    "diagnose": {"diagnose", "compare", "model", "network"},
    "report": {"compare", "diagnose.diagnosis", "errors"},
    "precision": {"numerical.noise", "sources"},
    "subject": {
        "errors",
        "model",
        "moving.objective",
        "network",
        "numerical.objective",
        "numerical.schemes",
        "precision",
        "sources",
        "spec",
    },
    "localise": {"compare", "numerical"},
    "effort": {"numerical", "spec"},
    "judge": {"compare", "diagnose", "numerical", "report", "spec", "subject"},
    "directions": {
        "compare",
        "judge",
        "localise",
        "numerical",
        "report",
        "sources.foreign",
    },
    "shared_work": {"effort", "moving.objective", "numerical.objective", "spec"},
    "checker": {
        "compare",
        "directions",
        "effort",
        "errors",
        "judge",
        "numerical",
        "report",
        "sources.foreign",
        "spec",
        "shared_work",
        "subject",
    },
    "convergence": {"compare"},
    "sweep": {
        "checker",
        "compare",
        "convergence",
        "errors",
        "numerical",
        "report",
        "spec",
        "subject",
    },
    "mutate": {
        "checker",
        "compare",
        "diagnose",
        "errors",
        "model",
        "network.network",
        "numerical.estimate",
        "numerical.looks",
        "shared_work",
        "sources",
        "spec",
        "subject",
    },
    "dump": {"errors", "model", "numerical", "sources", "spec"},
    "explain": {"compare", "errors", "model", "network", "numerical", "report", "sources", "spec", "subject"},
    "formats": {
        "formats",
        "report",
        "compare",
        "convergence",
        "diagnose.diagnosis",
        "explain",
        "mutate",
        "sweep",
        "errors",
        "pages",
    },
    "cli": {
        "",
        "cli",
        "spec",
        "spec_file",
        "checker",
        "dump",
        "explain",
        "mutate",
        "sweep",
        "report",
        "formats",
        "errors",
        "model.layers",  # the names of layers and parameters, for shell completion
        "numerical.schemes",
        "schema",
        "sources.own_process",
        "starters",
    },
    "testing": {
        "checker",
        "compare",
        "errors",
        "formats",
        "report",
        "sources.given_function",
        "spec",
        "spec_errors",
        "subject",
    },
    "pytest_plugin": {"pytest_specs"},
    "pytest_specs": {
        "checker",
        "compare",
        "errors",
        "formats",
        "report",
        "spec",
        "spec_file",
        "subject",
        "testing",
    },
    "__main__": {"cli", "errors"},
    "__init__": {"checker", "compare", "errors", "report", "spec", "spec_file", "testing"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def imports_of(path: Path) -> set[str]:
    """Return everything that the module imports, including inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
            if node.module == "gradcheck_cli" or (PACKAGE.parent / node.module.replace(".", "/")).is_dir():
                found |= {
                    f"{node.module}.{alias.name}"
                    for alias in node.names
                    if (PACKAGE.parent / f"{node.module}.{alias.name}".replace(".", "/"))
                    .with_suffix(".py")
                    .exists()
                }
    return found


def own(imports: set[str]) -> set[str]:
    return {
        name.removeprefix("gradcheck_cli").removeprefix(".") for name in imports if "gradcheck_cli" in name
    }


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_what_the_table_allows(path):
    name = name_of(path)
    allowed = MAY_IMPORT[name.split(".")[0]] | {"types"}
    beyond = {
        module
        for module in own(imports_of(path))
        if not any(module == granted or module.startswith(f"{granted}.") for granted in allowed)
    }
    assert not beyond, f"{name} must not import {', '.join(sorted(beyond))}"


def test_the_table_covers_every_module():
    assert {name_of(path).split(".")[0] for path in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_click_and_rich_stay_at_the_surface(path):
    name, imports = name_of(path), imports_of(path)
    foreign = {module.split(".")[0] for module in imports}
    room = name.split(".")[0]
    if room != "cli":
        assert "click" not in foreign
    if room not in ("cli", "formats"):
        assert "rich" not in foreign
    if name.startswith("numerical"):
        assert foreign <= set(sys.stdlib_module_names) | {"numpy", "gradcheck_cli"}


def test_no_module_imports_itself_in_a_circle():
    graph = {name_of(path): own(imports_of(path)) - {name_of(path)} for path in MODULES}
    del graph["__init__"]  # the public names are imported on first use
    state: dict[str, str] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != "open", f"a circle: {' → '.join((*trail, name))}"
        if state.get(name) == "done" or name not in graph:
            return
        state[name] = "open"
        for module in graph[name]:
            visit(module, (*trail, name))
        state[name] = "done"

    for name in graph:
        visit(name, ())


FIRST = """
import importlib, sys
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "gradcheck_cli"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(f"{module}: {error}")
"""


@pytest.mark.slow  # the test above covers explicit imports
def test_every_module_can_be_imported_first():
    modules = [f"gradcheck_cli.{name_of(path)}".removesuffix(".__init__") for path in MODULES]
    modules.remove("gradcheck_cli.__main__")
    command = [sys.executable, "-c", FIRST, *modules]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == ""
