"""Check the table of allowed imports, since a gradient check relies on the independence of its two sides."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Set
from functools import cache
from pathlib import Path

import pytest

import gradcheck_cli

PACKAGE = Path(gradcheck_cli.__file__).parent

# Each room may import only the rooms and modules named here, which all stand above it: no climb, no circle.
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "files": {"errors"},
    # The numerical side: it never sees a derivative.
    "numerical": set(),
    # The analytic side: it never sees a difference.
    "network": set(),
    # A network whose numbers can be perturbed: the forward pass of `network`, without its backprop.
    "moving": {
        "network.activations",
        "network.arithmetic",
        "network.carried",
        "network.factors",
        "network.graph",
        "network.loss",
        "network.loss_rounding",
        "network.network",
        "network.part",
        "network.penalties",
        "network.rise",
        "network.rounding",
        "network.row_rounding",
        "network.sensitivity",
        "network.step",
        "network.steps",
        "numerical.objective",
    },
    # The tables whose names a spec may use, and the steps that its layers build.
    "spec": {
        "errors",
        "network.activations",
        "network.builder",
        "network.composed",
        "network.graph",
        "network.initialisers",
        "network.layer",
        "network.losses",
        "network.penalties",
        "network.step",
        "network.steps",
        "numerical.schemes",
    },
    "arrays": {"errors", "spec"},
    "problem": {"arrays", "errors", "moving.objective", "network", "spec"},
    "gradients": {"arrays", "errors", "moving.objective", "network", "problem", "spec"},
    "parallel": {"errors", "moving.objective", "numerical.objective", "spec"},
    "code": {
        "arrays",
        "errors",
        "gradients.analytic",
        "network.factors",
        "network.shifted",
        "numerical.estimate",
        "numerical.jacobian",
        "numerical.noise",
        "numerical.objective",
        "parallel",
        "problem",
        "spec",
    },
    "projected": set(),
    "verdict": {"numerical", "projected"},
    "comparison": {"network.arithmetic", "numerical.estimate", "projected", "verdict"},
    "diagnose": {"comparison", "network", "problem"},
    "report": {"comparison", "diagnose.diagnosis", "errors", "verdict"},
    # Two ways to compare gradients with differences: every entry, or random directions.
    "entries": {
        "comparison",
        "errors",
        "gradients.analytic",
        "network.arithmetic",
        "numerical",
        "projected",
        "report",
        "spec.check",
        "verdict",
    },
    "directions": {
        "comparison",
        "entries",
        "network.arithmetic",
        "numerical",
        "parallel.clock",
        "projected",
        "report",
        "spec.check",
    },
    # A layer given by its functions, recognised as one of ours.
    "known_layers": {"code.call", "comparison", "diagnose", "network", "problem"},
    # What is checked, and which of the two ways is for it: a network, or code.
    "subject": {
        "arrays",
        "code",
        "comparison",
        "diagnose",
        "directions",
        "entries",
        "errors",
        "gradients",
        "known_layers",
        "moving.objective",
        "network",
        "numerical",
        "parallel",
        "problem",
        "report",
        "spec",
        "verdict",
    },
    "checker": {"numerical.estimate", "parallel.clock", "report", "spec.file", "spec.spec", "subject"},
    "dump": {
        "arrays",
        "code.sources",
        "errors",
        "files",
        "gradients",
        "network.shifted",
        "numerical",
        "problem",
        "spec",
    },
    "explain": {
        "arrays",
        "comparison",
        "errors",
        "gradients",
        "network",
        "numerical",
        "problem",
        "report",
        "spec",
        "subject",
        "verdict",
    },
    "compared": {
        "arrays",
        "comparison",
        "diagnose",
        "errors",
        "gradients",
        "numerical.estimate",
        "problem.problem",
        "report",
        "spec.spec",
        "subject.load",
        "verdict",
    },
    "sweep": {"errors", "numerical", "report", "spec", "subject", "verdict"},
    "mutate": {
        "arrays",
        "code.sources",
        "comparison",
        "diagnose",
        "errors",
        "gradients",
        "network.graph",
        "network.network",
        "network.shifted",
        "network.steps.convolution",
        "numerical.estimate",
        "numerical.looks",
        "parallel",
        "problem",
        "spec",
        "subject",
        "verdict",
    },
    "formats": {
        "comparison",
        "diagnose.diagnosis",
        "errors",
        "explain",
        "files",
        "mutate",
        "numerical.schemes",
        "projected",
        "report",
        "sweep",
        "verdict",
    },
    "testing": {
        "code.function",
        "code.given_function",
        "code.given_layer",
        "code.given_module",
        "code.given_pickles",
        "errors",
        "formats",
        "parallel.executors",
        "report",
        "spec",
        "subject",
        "verdict",
    },
    "pytest_plugin": {
        "checker",
        "errors",
        "formats",
        "parallel.executors",
        "report",
        "spec",
        "subject",
        "testing",
        "verdict",
    },
    "cli": {
        "checker",
        "code.own_process",
        "compared",
        "dump",
        "errors",
        "explain",
        "files",
        "formats",
        "mutate",
        "numerical.schemes",
        "parallel.executors",
        "parallel.interruptions",
        "problem.layers",  # the names of layers and parameters, for shell completion
        "report",
        "spec",
        "subject.several",
        "sweep",
    },
    "__main__": {"cli", "errors"},
    "__init__": {"checker", "code.tap", "comparison", "errors", "report", "spec", "testing", "verdict"},
}

THE_VERSION = {"cli", "cli.schema", "parallel.remote"}
"""The only modules that import anything from the public front: its version."""

FRONT = {
    "checker",
    "projected",
    "verdict",
    "comparison",
    "report",
    "errors",
    "types",
    "dump",
    "testing",
    "__init__",
    "__main__",
}
"""The modules at the root; everything else is in a folder."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


@cache
def parsed(path: Path) -> list[ast.AST]:
    """Return all nodes of a module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return everything that the module imports, including inside functions."""
    found = set()
    for node in parsed(path):
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
    return frozenset(found)


def own(imports: Set[str]) -> set[str]:
    return {
        name.removeprefix("gradcheck_cli").removeprefix(".") for name in imports if "gradcheck_cli" in name
    }


def room_of(module: str) -> str:
    return module.split(".")[0]


def not_allowed(path: Path) -> list[str]:
    name = name_of(path)
    allowed = MAY_IMPORT[room_of(name)] | {room_of(name), "types"} | ({""} if name in THE_VERSION else set())
    return sorted(
        f"{name} must not import {module}"
        for module in own(imports_of(path))
        if not any(module == granted or module.startswith(f"{granted}.") for granted in allowed)
    )


def test_every_module_imports_only_what_the_table_allows():
    assert [each for path in MODULES for each in not_allowed(path)] == []


def test_the_table_covers_every_room():
    assert {room_of(name_of(path)) for path in MODULES} == set(MAY_IMPORT)


def test_every_import_goes_to_a_room_above():
    rooms = list(MAY_IMPORT)
    for number, (room, allowed) in enumerate(MAY_IMPORT.items()):
        assert {room_of(module) for module in allowed} <= set(rooms[:number]), room


def test_the_table_allows_nothing_that_no_module_needs():
    needed = {room: set() for room in MAY_IMPORT}
    for path in MODULES:
        needed[room_of(name_of(path))] |= own(imports_of(path))
    for room, allowed in MAY_IMPORT.items():
        unused = {
            granted
            for granted in allowed
            if not any(module == granted or module.startswith(f"{granted}.") for module in needed[room])
        }
        assert not unused, f"{room} need not import {', '.join(sorted(unused))}"


def test_the_front_imports_the_version_alone():
    for path in MODULES:
        for node in parsed(path):
            if isinstance(node, ast.ImportFrom) and node.module == "gradcheck_cli":
                from_front = {alias.name for alias in node.names} - {name_of(path) for path in MODULES}
                assert from_front <= {"__version__"}, path


def test_only_the_public_front_stands_at_the_root():
    assert {path.stem for path in PACKAGE.glob("*.py")} == FRONT


def test_every_folder_says_what_lives_there():
    for folder in {path.parent for path in MODULES} - {PACKAGE}:
        assert ast.get_docstring(parsed(folder / "__init__.py")[0]), folder


def test_click_and_rich_stay_at_the_surface():
    for path in MODULES:
        name, foreign = name_of(path), {module.split(".")[0] for module in imports_of(path)}
        room = room_of(name)
        assert room == "cli" or "click" not in foreign, name
        assert room in ("cli", "formats") or "rich" not in foreign, name
        known = set(sys.stdlib_module_names) | {"numpy", "gradcheck_cli"}
        assert room != "numerical" or foreign <= known, name


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


@pytest.mark.slow
def test_a_module_of_every_room_can_be_imported_first():
    """An import in a circle that the text does not show would fail; the test above follows the others."""
    modules = {room_of(name_of(path)): f"gradcheck_cli.{name_of(path)}" for path in MODULES}.values()
    command = [sys.executable, "-c", FIRST, *modules]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == ""
