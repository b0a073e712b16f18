"""Specs to start from, one for each source of gradients."""

from __future__ import annotations

STARTERS = {
    "backprop": "our own, a demonstration that runs as it is",
    "file": "yours, in a file",
    "python": "those of a Python function",
    "torch": "those of a torch module",
}
"""Whose gradients are checked; each has a .yaml here."""

SCHEMA_FILE = "gradcheck.schema.json"
"""What the first line of every starter names, beside it."""


def starter(source: str) -> str:
    """The text of a starter, which is ASCII."""
    from importlib.resources import files

    return files(__name__).joinpath(f"{source}.yaml").read_text(encoding="ascii")
