"""The specs that `gradcheck init` writes, one for each source of gradients, and code for them to check."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_FILE = "gradcheck.schema.json"
"""The file of the JSON Schema, which the first line of each starter names."""

CODE_FILE = "my_net.py"
"""The Python file that a starter checks, written to the same folder."""


@dataclass(frozen=True)
class Starter:
    """The files to write for one source of gradients.

    what: the source in words.  has_code: whether to write a `CODE_FILE`.
    is_run: whether that file is a program, which writes the arrays that the spec names.
    """

    what: str
    has_code: bool = False
    is_run: bool = False


STARTERS = {
    "backprop": Starter("a runnable demo without code of yours"),
    "file": Starter("arrays in a file, from a program in any language", has_code=True, is_run=True),
    "python": Starter("a Python function that returns loss and gradients", has_code=True),
    "torch": Starter("a torch module or autograd.Function", has_code=True),
}
"""The sources of gradients. Each has a .yaml file here, and a .py.txt file if it has code."""


def starter(source: str) -> str:
    """Return the text of a starter's spec, in ASCII."""
    return _text(f"{source}.yaml")


def starter_code(source: str) -> str:
    """Return the text of a starter's code, in ASCII."""
    return _text(f"{source}.py.txt")


def _text(file: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath(file).read_text(encoding="ascii")
