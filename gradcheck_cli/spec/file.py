"""Read a `Spec` from a YAML file. Every error shows file:line:column, the line with a caret, and a hint."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from gradcheck_cli.errors import Complaint, InputError, Position
from gradcheck_cli.spec.spec import Spec
from gradcheck_cli.spec.text import read_source
from gradcheck_cli.spec.tree import Document, read_tree
from gradcheck_cli.spec.values import Values, converters_of

_MAX_COMPLAINTS = 100


@dataclass(frozen=True)
class SpecFile:
    """A spec and the YAML document that it was read from."""

    spec: Spec
    document: Document

    @property
    def path(self) -> str:
        return self.document.source.name

    def located(self, error: InputError) -> InputError:
        """Return an `InputError` with the same complaints, each with its position in this file."""
        return InputError(*in_reading_order(map(self.document.located, error.complaints)))

    def place_of(self, tensor: str) -> Position | None:
        """Return the position of a tensor's layer, or of the gradients section if the tensor has no layer."""
        layer = tensor.rpartition(".")[0]
        names = self.spec.network.names if self.spec.network else {}
        place = next((place for place, name in names.items() if name == layer), None)
        where = ("gradients",) if place is None else ("network", "layers", *place)
        return self.document.located(Complaint("", where)).position


def load_spec(path: str | os.PathLike[str]) -> Spec:
    """Read and validate a spec. Raises an `InputError` that lists every fault in the spec."""
    return read_spec(path).spec


def read_spec(path: str | os.PathLike[str]) -> SpecFile:
    """Read and validate a spec, and keep the position of every key and value.

    path: the YAML file; `-` is standard input.
    """
    name = os.fspath(path)
    yaml = YAML(typ="safe", pure=True)
    document = read_tree(yaml, read_source(name))
    values = Values(document, converters_of(yaml))
    written = values.of(document.root)
    if written is None:  # the root has a tag that is not allowed
        raise InputError(*values.complaints)
    return SpecFile(_validated(written, Path() if name == "-" else Path(name).parent, values), document)


def _validated(written: Any, folder: Path, values: Values) -> Spec:
    """Return the validated spec.

    Raises an `InputError` with pydantic's complaints and those collected while reading the YAML values.
    """
    complaints = list(values.complaints)
    try:
        spec = Spec.model_validate(written, context={"folder": folder})
    except ValidationError as error:
        from gradcheck_cli.spec.messages import explain  # only a failing run needs it

        seen = {complaint.position for complaint in complaints}  # one error per place
        located = [values.document.located(*each) for each in explain(error.errors(include_url=False))]
        complaints += [complaint for complaint in located if complaint.position not in seen]
    if complaints:
        raise InputError(*in_reading_order(complaints))
    return spec


def in_reading_order(complaints: Iterable[Complaint]) -> list[Complaint]:
    """Return the distinct complaints in the order of the file, but at most the first 100 of them."""
    once = {(complaint.position, complaint.message): complaint for complaint in complaints}
    ordered = sorted(once.values(), key=_place)
    if len(ordered) > _MAX_COMPLAINTS:
        more = Complaint(f"and {len(ordered) - _MAX_COMPLAINTS} more like these")
        ordered[_MAX_COMPLAINTS:] = [more]
    return ordered


def _place(complaint: Complaint) -> tuple[int, int]:
    return (complaint.position.line, complaint.position.column) if complaint.position else (0, 0)
