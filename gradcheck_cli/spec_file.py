"""A YAML file → a `Spec`; every error as file:line:column with the line, a caret and a hint."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gradcheck_cli.errors import Complaint, InputError, Position
from gradcheck_cli.spec import Spec
from gradcheck_cli.spec_errors import explain

_MAX_BYTES = 32 * 2**20
_MAX_NODES = 2_000_000
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Document:
    """A YAML file as text and as a tree that knows where everything stands."""

    path: str
    text: str
    root: Node

    def located(self, complaint: Complaint, at_key: bool = False) -> Complaint:
        """The complaint with the position of the deepest part of its location that is in the file.

        at_key: point at the last step's key instead of its value.
        """
        if complaint.position is not None:
            return complaint
        node = self.root
        for depth, step in enumerate(complaint.where, start=1):
            key, value = _child(node, step)
            if value is None:
                break
            node = key if at_key and key is not None and depth == len(complaint.where) else value
        if node is self.root:
            return replace(complaint, where=(), message=f"{self.path}: {complaint.message}")
        return replace(complaint, position=self.position(node))

    def position(self, node: Node) -> Position:
        return position(self.path, self.text, node.start_mark.line, node.start_mark.column)


@dataclass(frozen=True)
class SpecFile:
    """A spec and the document it was read from."""

    spec: Spec
    document: Document

    @property
    def path(self) -> str:
        return self.document.path

    def located(self, error: InputError) -> InputError:
        """The same complaints, each with its position in this file."""
        return InputError(*map(self.document.located, error.complaints))


def load_spec(path: str | os.PathLike[str]) -> Spec:
    """Read and validate a spec. Raises `InputError` with every complaint about it."""
    return read_spec(path).spec


def read_spec(path: str | os.PathLike[str]) -> SpecFile:
    """Read and validate a spec (`-` is standard input), keeping the positions of everything in it."""
    name = os.fspath(path)
    shown, text = ("<stdin>", _read_stdin()) if name == "-" else (name, _read_text(name))
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True  # they are refused below, together with everything else
    document = Document(shown, text, _compose(yaml, shown, text))
    _refuse_unbounded(document)
    complaints = list(_key_complaints(document, document.root))
    data = _construct(yaml, document)
    try:
        spec = Spec.model_validate(data, context={"folder": Path() if name == "-" else Path(name).parent})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            complaint, at_key = explain(details)
            complaints.append(document.located(complaint, at_key))
    if complaints:
        raise InputError(*sorted(complaints, key=_reading_order))
    return SpecFile(spec, document)


def _reading_order(complaint: Complaint) -> tuple[int, int]:
    return (complaint.position.line, complaint.position.column) if complaint.position else (0, 0)


# --- reading ---------------------------------------------------------------------------------------------


def _read_text(name: str) -> str:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise _unreadable(name, "it is a folder; a spec is a YAML file")
        with open(name, "rb") as stream:
            return _decode(stream.read(_MAX_BYTES + 1), name)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file", _neighbour(name)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from None


def _read_stdin() -> str:
    return _decode(sys.stdin.buffer.read(_MAX_BYTES + 1), "<stdin>")


def _decode(data: bytes, name: str) -> str:
    if len(data) > _MAX_BYTES:
        raise _unreadable(name, "it is larger than 32 MiB", "put the numbers into an .npz file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(name, f"line {line} is not UTF-8 text") from None


def _unreadable(name: str, reason: str, help: str | None = None) -> InputError:
    return InputError(Complaint(f"cannot read '{name}': {reason}", help=help))


def _neighbour(name: str) -> str | None:
    folder = os.path.dirname(name)
    if not os.path.isdir(folder or "."):
        return None
    close = get_close_matches(os.path.basename(name), os.listdir(folder or "."), n=1)
    return f"did you mean '{os.path.join(folder, close[0])}'?" if close else None


# --- the tree --------------------------------------------------------------------------------------------


def _compose(yaml: YAML, name: str, text: str) -> Node:
    try:
        root = yaml.compose(text)
    except (YAMLError, RecursionError) as error:
        raise InputError(_syntax_complaint(error, name, text)) from None
    if root is None:
        raise InputError(Complaint(f"'{name}' is empty; a spec needs at least 'network' and 'data'"))
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, SequenceNode) else "a single value"
        here = position(name, text, root.start_mark.line, root.start_mark.column)
        message = f"a spec is a mapping with 'network' and 'data'; this is {found}"
        raise InputError(Complaint(message, position=here))
    return root


def _construct(yaml: YAML, document: Document) -> Any:
    try:
        return yaml.constructor.construct_document(document.root)
    except (YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(_syntax_complaint(error, document.path, document.text)) from None


def _syntax_complaint(error: Exception, name: str, text: str) -> Complaint:
    if isinstance(error, RecursionError):
        return Complaint(f"{name}: the YAML is nested too deeply")
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None) if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return Complaint(f"{name}: this is not YAML: {problem}")
    return Complaint(f"this is not YAML: {problem}", position=position(name, text, mark.line, mark.column))


def _refuse_unbounded(document: Document) -> None:
    """Aliases inside themselves, or aliases of aliases of aliases, would grow without bound."""
    count, stack = 0, [(document.root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > _MAX_DEPTH or count > _MAX_NODES:
            message = (
                f"{document.path}: the spec is nested too deeply or, with its aliases written out, too large"
            )
            raise InputError(Complaint(message))
        if isinstance(node, MappingNode):
            stack += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, SequenceNode):
            stack += [(child, depth + 1) for child in node.value]


def _key_complaints(document: Document, node: Node) -> Iterator[Complaint]:
    """Keys that are no words, and keys given twice."""
    if isinstance(node, SequenceNode):
        for value in node.value:
            yield from _key_complaints(document, value)
    if not isinstance(node, MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            yield Complaint("a key must be a word", position=document.position(key))
        elif key.value in lines:
            message = f"key '{key.value}' is already given on line {lines[key.value]}"
            yield Complaint(message, position=document.position(key))
        else:
            lines[key.value] = key.start_mark.line + 1
            yield from _key_complaints(document, value)


def _child(node: Node, step: str | int) -> tuple[Node | None, Node | None]:
    """The key and value nodes one step down from `node`."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


def position(name: str, text: str, line: int, column: int) -> Position:
    """A `Position` from a line and column counted from 0."""
    lines = text.splitlines() or [""]
    line = min(line, len(lines) - 1)  # an unexpected end stands a line further than there is
    return Position(name, line + 1, min(column, len(lines[line])) + 1, lines[line])
