"""Specs to start from, one for each source of gradients, and code that they run on at once."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_FILE = "gradcheck.schema.json"
"""What the first line of every starter names, beside it."""

CODE_FILE = "my_net.py"
"""The file of code that a starter names, written to the same folder."""


@dataclass(frozen=True)
class Starter:
    """What to write for one source of gradients.

    what: whose gradients these are.  has_code: whether there is a `CODE_FILE` to write, too.
    is_run: whether that file is a program, which writes what the spec names.
    """

    what: str
    has_code: bool = False
    is_run: bool = False


STARTERS = {
    "backprop": Starter("our own, a demonstration without code"),
    "file": Starter("yours, in a file", has_code=True, is_run=True),
    "python": Starter("those of a Python function", has_code=True),
    "torch": Starter("those of a torch module", has_code=True),
}
"""Whose gradients are checked; each has a .yaml here, and a .py.txt if it has code."""


def starter(source: str) -> str:
    """The text of a starter's spec, which is ASCII."""
    return _text(f"{source}.yaml")


def starter_code(source: str) -> str:
    """The text of a starter's code, which is ASCII."""
    return _text(f"{source}.py.txt")


def _text(file: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath(file).read_text(encoding="ascii")
