"""Specs to start from, one for each source of gradients, with code that runs unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.spec.code_sources import CODE_SOURCES

SCHEMA_FILE = "gradcheck.schema.json"
"""The schema file that every starter names in its first line, and that belongs in the same folder."""

CODE_FILE = "my_net.py"
"""The code file that a starter names, and that belongs in the same folder."""


@dataclass(frozen=True)
class Starter:
    """The files to write for one source of gradients.

    what: where the gradients come from.  has_code: whether there is a `CODE_FILE` to write as well.
    is_run: whether that file is a program that writes the arrays of the spec.
    """

    what: str
    has_code: bool = False
    is_run: bool = False


STARTERS = {
    "backprop": Starter("gradcheck's own: a demo without code"),
    "file": Starter("a file of arrays", has_code=True, is_run=True),
    **{source.key: Starter(source.what, has_code=True) for source in CODE_SOURCES},
}
"""The sources of gradients; each has a .yaml in this folder, and a .py.txt if it has code."""


def starter(source: str) -> str:
    """Return the text of a starter's spec, which is ASCII."""
    return _text(f"{source}.yaml")


def starter_code(source: str) -> str:
    """Return the text of a starter's code, which is ASCII."""
    return _text(f"{source}.py.txt")


def _text(file: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath(file).read_text(encoding="ascii")
