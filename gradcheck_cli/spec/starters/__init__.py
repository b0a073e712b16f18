"""The specs that `gradcheck init` writes, one for each source of gradients, with code that runs unchanged."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.spec.code_sources import CODE_SOURCES

SCHEMA_FILE = "gradcheck.schema.json"
"""The name of the schema file. The first line of every starter refers to it; both are in one folder."""

CODE_FILE = "my_net.py"
"""The name of the code file. A starter with code refers to it; both are in one folder."""


@dataclass(frozen=True)
class Starter:
    """The files that `gradcheck init` writes for one source of gradients.

    what: a phrase that describes the source of the gradients.
    key: the key in the gradients section that names the source.
    has_code: whether to write a `CODE_FILE` as well.
    is_run: whether the code file is a program that the user runs to write the arrays of the spec.
    """

    what: str
    key: str
    has_code: bool = False
    is_run: bool = False


STARTERS = {
    "backprop": Starter("gradcheck's own network: a demo that needs no code", "source"),
    "file": Starter("a file of arrays", "file", has_code=True, is_run=True),
    **{source.key: Starter(source.what, source.key, has_code=True) for source in CODE_SOURCES},
    "taps": Starter("a Python function with taps, to find the place of a mistake", "python", has_code=True),
    "torch-function": Starter(
        "a torch function without a loss, its second derivatives and forward mode", "torch", has_code=True
    ),
}
"""Maps each source of gradients to its starter.

The files of a starter are in this folder: SOURCE.yaml and, if it has code, SOURCE.py.txt.
"""


def starter(source: str) -> str:
    """Return the text of the starter spec for a source of gradients. The text is ASCII."""
    return _text(f"{source}.yaml")


def starter_code(source: str) -> str:
    """Return the text of the starter code for a source of gradients. The text is ASCII."""
    return _text(f"{source}.py.txt")


def _text(file: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath(file).read_text(encoding="ascii")
