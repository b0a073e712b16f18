"""Fixtures that write the user's code to a file."""

from __future__ import annotations

from textwrap import dedent

import pytest
from function_source import RIGHT
from module_source import HEAD

from gradcheck_cli.spec.gradients import CODE_MODELS, Code


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "net.py").write_text(dedent(text))
        return CODE_MODELS["python"](python=Code(tmp_path / "net.py", "f"))

    return write


@pytest.fixture
def returning(written):
    """Return a function that returns this expression of the right loss, the right gradients g, p, x and y."""

    def write(expression, before="", at_first=""):
        body = dedent(RIGHT).replace("def f(", "def right(")
        call = f"    loss, g = right(p, x, y)\n    {before}\n    return {expression}"
        return written(f"{body}\n{at_first}\ndef f(p, x, y):\n{call}")

    return write


@pytest.fixture
def built(tmp_path):
    def write(text):
        (tmp_path / "net.py").write_text(HEAD + dedent(text))
        return CODE_MODELS["torch"](torch=Code(tmp_path / "net.py", "build"))

    return write
