"""A report may replace an earlier report or a file of its kind, but never an input."""

from __future__ import annotations

import re

import numpy as np
import pytest
from command_specs import CODES, GOOD

from gradcheck_cli.formats import FORMATS

CODE = "parameters = {'w': [1.0]}\ndef f(p, x, y):\n    return p['w'][0] ** 2, {'w': 2 * p['w']}\n"


@pytest.fixture
def inputs(folder) -> dict[str, bytes]:
    """Return every file that specs name, or that lies in their folder, by its name."""
    np.savez("data.npz", x=np.ones((5, 3)), y=np.zeros((5, 2)))
    shapes = {"hidden1.weight": (4, 3), "hidden1.bias": (4,), "output.weight": (2, 4), "output.bias": (2,)}
    for file in ("parameters.npz", "gradients.npz", "gradients"):
        with open(file, "wb") as stream:
            np.savez(stream, **{name: np.ones(shape) for name, shape in shapes.items()})
    (folder / "sub").mkdir()
    for name, shape in shapes.items():
        np.save(f"sub/{name}.npy", np.ones(shape))
    (folder / "code.py").write_text(CODE)
    (folder / "pyproject.toml").write_text("[tool.gradcheck]\nstrict = true\n")
    (folder / "notes").write_text("to do\n")
    (folder / "Makefile").write_text("check:\n\tgradcheck check .\n")
    (folder / "table.csv").write_text("a,b\n1,2\n")
    lines = [line for line in GOOD.splitlines(keepends=True) if not line.startswith(("parameters", "data"))]
    network = "".join(lines) + "data: {file: data.npz}\nparameters: {file: parameters.npz}\n"
    for name in ("gradients.npz", "gradients", "sub"):
        (folder / f"of_{name.partition('.')[0]}.yaml").write_text(f"{network}gradients: {{file: {name}}}\n")
    (folder / "code.yaml").write_text("gradients: {python: code.py:f}\n")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_that_is_read_is_overwritten(format, inputs, folder, gradcheck):
    if format == "html":
        pytest.importorskip("jinja2")
    for file in inputs:
        done = gradcheck("check", "of_gradients.yaml", "code.yaml", "--report", f"{format}={file}")
        assert (done.code, done.out) == (2, ""), file
        assert re.search(rf"error: --report: '{re.escape(file)}' (is|exists and is not) a", done.err), file
    after = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == inputs


@pytest.mark.usefixtures("undiagnosed")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("name", "specs"), [*(("out", [spec]) for spec in CODES), ("report.v1", list(CODES))], ids=str
)
def test_a_report_replaces_an_earlier_one_of_any_name(name, specs, format, folder, gradcheck):
    if format == "html":
        pytest.importorskip("jinja2")
    for _ in ("first", "again"):
        done = gradcheck("check", *specs, "--report", f"{format}={name}")
        assert "--report" not in done.err
    assert done.code == (2 if "bad.yaml" in specs else CODES[specs[0]])


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("json", "old.json"),
        ("junit", "old.xml"),
        ("html", "old.html"),
        ("markdown", "old.md"),
        ("table", "old.txt"),
        ("github", "old.log"),
    ],
)
@pytest.mark.parametrize("content", ["old\n", ""])
def test_a_report_replaces_a_file_named_like_a_report_or_an_empty_one(
    content, name, format, folder, gradcheck
):
    (folder / name).write_text(content)
    assert gradcheck("check", "good.yaml", "--report", f"{format}={name}").code == 0
    assert "good.yaml" in (folder / name).read_text("utf-8")


def test_arrays_are_not_overwritten_whatever_their_name(folder, gradcheck):
    with open("arrays.json", "wb") as stream:
        np.savez(stream, w=np.ones(3))
    done = gradcheck("check", "good.yaml", "--report", "json=arrays.json")
    assert done.code == 2
    assert "'arrays.json' exists and is not a json report, so it is not overwritten" in done.err
    assert np.load("arrays.json")["w"].sum() == 3
