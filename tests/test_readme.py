"""The README is short and true: its commands run, its examples run, and its pictures are current."""

from __future__ import annotations

import re
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from ruamel.yaml import YAML
from shown import outline, settled

from gradcheck_cli import ExitCode, Spec, check, check_jax, load_spec
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.network.functions import softmax

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_it_is_short():
    assert README.count("\n") <= 200


def test_there_are_exactly_the_two_promised_commands():
    first, second = (block.strip() for block in blocks("sh"))
    assert first.endswith(".venv/bin/gradcheck check configs/digits_mlp.yaml")
    assert second.endswith(".venv/bin/pytest")


def test_the_gate_runs_the_second_one():
    assert "<!-- test command -->" in README
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    headings = {
        "#" + re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    assert links
    assert [link for link in links if link not in headings and not (ROOT / link).exists()] == []


def test_the_exit_codes_are_those_of_the_command():
    told = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in row.split(",")
    }
    assert told == {int(code) for code in ExitCode}


def test_every_format_is_named():
    assert [name for name in FORMATS if f"`{name}`" not in README] == []


# --- the examples ------------------------------------------------------------------------------------------


def executed(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("example", blocks("python"))
def test_python_example_runs(example):
    names = executed(example)
    for name, value in names.items():
        if name.startswith("test_"):
            value()


def a_network_by_hand() -> dict[str, Any]:
    """Return what somebody has at the end of backprop by hand: 64-50-10, sigmoid and cross-entropy."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 64)), rng.integers(10, size=8)
    w1, b1, w2, b2 = (rng.normal(0.0, 0.3, size) for size in ((50, 64), 50, (10, 50), 10))
    a = 1 / (1 + np.exp(-(x @ w1.T + b1)))
    p = softmax(a @ w2.T + b2)
    delta2 = (p - np.eye(10)[y]) / len(x)
    delta1 = delta2 @ w2 * a * (1 - a)
    loss = -np.log(p[np.arange(len(x)), y]).mean()
    made = {"dw1": delta1.T @ x, "db1": delta1.sum(axis=0), "dw2": delta2.T @ a, "db2": delta2.sum(axis=0)}
    return {"x": x, "y": y, "w1": w1, "b1": b1, "w2": w2, "b2": b2, "loss": loss, **made}


def test_arrays_of_numpy_are_checked_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (save,) = (block for block in blocks("py") if "savez" in block)
    executed(save, np=np, **a_network_by_hand())
    (spec,) = blocks("yaml")
    Path("net.yaml").write_text(spec, encoding="utf-8")
    report = check(load_spec(Path("net.yaml")))
    assert report.passed
    assert not report.unusual


def test_the_torch_example_is_checked(tmp_path):
    pytest.importorskip("torch")
    (build,) = (block for block in blocks("py") if "nn.Sequential" in block)
    (tmp_path / "net.py").write_text(f"from torch import nn\n\n{build}", encoding="utf-8")
    np.savez(tmp_path / "batch.npz", x=np.ones((3, 64)), y=np.arange(3))
    data = {"file": "batch.npz"}
    gradients = {"torch": "net.py:build"}
    spec = Spec.model_validate({"data": data, "gradients": gradients}, context={"folder": tmp_path})
    assert check(spec).passed


@pytest.mark.slow  # jax takes seconds to compile
def test_the_jax_example_is_checked():
    jax = pytest.importorskip("jax")
    (example,) = (block for block in blocks("py") if "calls jax.grad" in block)
    names = executed(example, kernel=jax.numpy.tanh)
    check_jax(names["model"], {"w": np.ones((2, 1))}, np.ones((3, 2)), np.zeros((3, 1)))


def test_the_job_for_github_is_one():
    (job,) = blocks("yml")
    *_, step = YAML(typ="safe", pure=True).load(job)["jobs"]["gradients"]["steps"]
    action = YAML(typ="safe", pure=True).load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert set(step["with"]) <= set(action["inputs"])


def test_the_program_in_c_is_the_example():
    (commands,) = (block for block in blocks("text") if "cc -O2" in block)
    assert "gradcheck dump configs/c_example/net.yaml" in commands  # test_c_examples.py runs it
    assert "configs/c_example/backprop.c" in commands


# --- the pictures ------------------------------------------------------------------------------------------


def drawing() -> ModuleType:
    spec = spec_from_file_location("draw", ROOT / "docs" / "pictures" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAW = drawing()


def text_of(svg: str) -> str:
    """Return the words of a picture, line by line."""
    lines: dict[float, str] = {}
    for y, text in re.findall(r'<text [^>]*? y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        lines[float(y)] = lines.get(float(y), "") + unescape(text).replace("\xa0", " ")
    return "\n".join(line.rstrip() for _, line in sorted(lines.items()))


@pytest.mark.parametrize("name", DRAW.COMMANDS)
def test_a_picture_shows_what_the_command_prints(name):
    svg = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    printed, shown = DRAW.picture(name, DRAW.printed(DRAW.COMMANDS[name])), text_of(svg)
    compared = (
        (outline(text_of(printed)), outline(shown)) if name == "sweep" else settled(text_of(printed), shown)
    )
    assert compared[0] == compared[1]


def test_every_picture_is_in_the_readme_and_needs_no_other_host():
    for name in DRAW.COMMANDS:
        assert f"docs/pictures/{name}.svg" in README
        svg = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
        assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?http", svg)
