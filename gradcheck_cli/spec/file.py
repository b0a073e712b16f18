"""Read a `Spec` from a YAML file; every error has file:line:column, the line, a caret and a hint."""

from __future__ import annotations

import os
import re
import stat
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from gradcheck_cli.errors import Complaint, InputError, Position, did_you_mean_file, shortened
from gradcheck_cli.spec.spec import Spec

_MAX_MIB = 2
_MAX_NODES = 15_000
"""The most values in a spec; ruamel.yaml reads them in two seconds."""
_MAX_EXPANDED = 1_000_000
"""The most values in a spec once all aliases are expanded."""
_MAX_DEPTH = 64
_MAX_KEYS = 1000
_MAX_BITS = 1100
"""The most bits in an integer: beyond the range of a float, and few enough for Python to print."""
_MAX_COMPLAINTS = 100


@dataclass(frozen=True)
class Source:
    """The text of a spec, and the name of its file."""

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines as YAML 1.2 counts them; `splitlines` splits at more characters."""
        return re.split(r"\r\n|\r|\n", self.text)

    def position(self, line: int, column: int) -> Position:
        """Return the position for a line and column, which are counted from 0."""
        line = min(line, len(self.lines) - 1)
        while line > 0 and not self.lines[line].strip():
            line, column = (
                line - 1,
                sys.maxsize,
            )  # at the end of the file, point behind the last line with text
        text = self.lines[line]
        return Position(self.name, line + 1, min(column, len(text)) + 1, text)


@dataclass(frozen=True)
class Document:
    """A YAML file as text and as a tree of nodes with positions."""

    source: Source
    root: Node

    def located(self, complaint: Complaint, at_key: bool = False) -> Complaint:
        """Return the complaint with a position: that of the deepest part of its location found in the file.

        at_key: whether to point at that part's key instead of its value.
        """
        if complaint.position is not None:
            return complaint
        key, node, depth = None, self.root, 0
        for step in complaint.where:
            child_key, child = _child(node, step)
            if child is None:
                break
            key, node, depth = child_key, child, depth + 1
        if complaint.where and depth == 0:  # it concerns a default, which has no place in the file
            return replace(complaint, where=(), message=f"{self.source.name}: {complaint.message}")
        if key is not None and at_key and depth == len(complaint.where):
            return replace(complaint, position=self.position(key))
        return replace(complaint, position=self._position_of_value(key, node))

    def _position_of_value(self, key: Node | None, value: Node) -> Position:
        """Return where the value begins; the parser may place an empty value several lines further down."""
        if key is not None and _is_absent(value):
            return self.source.position(key.end_mark.line, key.end_mark.column + 1)
        return self.position(value)

    def position(self, node: Node) -> Position:
        return self.source.position(node.start_mark.line, node.start_mark.column)


@dataclass(frozen=True)
class SpecFile:
    """A spec, together with the document it was read from."""

    spec: Spec
    document: Document

    @property
    def path(self) -> str:
        return self.document.source.name

    def located(self, error: InputError) -> InputError:
        """Return the same complaints, each with its position in this file."""
        return InputError(*in_reading_order(map(self.document.located, error.complaints)))

    def place_of(self, tensor: str) -> Position | None:
        """Return the position of the tensor's layer, or of the code if it belongs to no layer."""
        layer = tensor.rpartition(".")[0]
        names = self.spec.network.names if self.spec.network else ()
        where = ("network", "layers", names.index(layer)) if layer in names else ("gradients",)
        return self.document.located(Complaint("", where)).position


def load_spec(path: str | os.PathLike[str]) -> Spec:
    """Read and validate a spec. Raises an `InputError` that contains every complaint about it."""
    return read_spec(path).spec


def read_spec(path: str | os.PathLike[str]) -> SpecFile:
    """Read and validate a spec (`-` is standard input), keeping the positions of everything in it."""
    name = os.fspath(path)
    source = Source("<stdin>", _read_stdin()) if name == "-" else Source(name, _read_text(name))
    yaml = YAML(typ="safe", pure=True)
    document = Document(source, _compose(yaml, source))
    _refuse_unbounded(document)
    values = _Values(document, _converters(yaml))
    written = values.of(document.root)
    complaints = list(values.complaints)
    if written is None:  # the root has a tag that is not allowed
        raise InputError(*complaints)
    try:
        spec = Spec.model_validate(written, context={"folder": Path() if name == "-" else Path(name).parent})
    except ValidationError as error:
        from gradcheck_cli.spec.messages import explain  # only a failing run needs it

        seen = {complaint.position for complaint in complaints}  # one error per place
        located = [document.located(*each) for each in explain(error.errors(include_url=False))]
        complaints += [complaint for complaint in located if complaint.position not in seen]
    if complaints:
        raise InputError(*in_reading_order(complaints))
    return SpecFile(spec, document)


def in_reading_order(complaints: Iterable[Complaint]) -> list[Complaint]:
    """Return the complaints in the order of the file, without repetitions; of very many, the first ones."""
    once = {(complaint.position, complaint.message): complaint for complaint in complaints}
    ordered = sorted(once.values(), key=_place)
    if len(ordered) > _MAX_COMPLAINTS:
        more = Complaint(f"and {len(ordered) - _MAX_COMPLAINTS} more like these")
        ordered[_MAX_COMPLAINTS:] = [more]
    return ordered


def _place(complaint: Complaint) -> tuple[int, int]:
    return (complaint.position.line, complaint.position.column) if complaint.position else (0, 0)


# --- reading ---------------------------------------------------------------------------------------------


def _read_text(name: str) -> str:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise _unreadable(name, "it is a folder; a spec is a YAML file")
        with open(name, "rb", opener=_open_pipe if stat.S_ISFIFO(mode) else None) as stream:
            return _decode(stream.read(_MAX_MIB * 2**20 + 1), name)
    except FileNotFoundError:
        raise _unreadable(name, "there is no such file", did_you_mean_file(name)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, getattr(error, "strerror", None) or str(error)) from None


def _open_pipe(name: str, flags: int) -> int:
    """Open a pipe without waiting for a writer; if there is none, the pipe reads as empty."""
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _read_stdin() -> str:
    try:
        return _decode(sys.stdin.buffer.read(_MAX_MIB * 2**20 + 1), "<stdin>")
    except (AttributeError, OSError, ValueError) as error:  # standard input is closed, or a folder
        raise _unreadable("<stdin>", getattr(error, "strerror", None) or "it is closed") from None


def _decode(data: bytes, name: str) -> str:
    if len(data) > _MAX_MIB * 2**20:
        raise _unreadable(name, f"it is larger than {_MAX_MIB} MiB", "put the numbers into an .npz file")
    if data.startswith(b"PK\x03\x04"):
        raise _unreadable(name, "it is an .npz, not a spec", "a spec is a YAML file that names the .npz")
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise _unreadable(
            name, "it is UTF-16 text", "save it as UTF-8; in PowerShell, `… | Out-File -Encoding utf8`"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(name, f"line {line} is not UTF-8 text") from None


def _unreadable(name: str, reason: str, help: str | None = None) -> InputError:
    return InputError(Complaint(f"cannot read '{name}': {reason}", help=help))


# --- the tree --------------------------------------------------------------------------------------------


class _TooMuchError(Exception):
    """The YAML has more values or levels than a spec may have.

    mark: the place of the first one too many.
    """

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.mark = mark


_TOO_DEEP = "the spec is nested too deeply, or contains itself by an alias"


class _Composer(Composer):
    """A composer that stops before a file takes minutes to read or overflows the stack."""

    nodes = 0
    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        self.level += 1
        if self.nodes > _MAX_NODES:
            problem = f"the spec has more than {_MAX_NODES:,} values; put the numbers into an .npz file"
            raise _TooMuchError(problem, self.parser.peek_event().start_mark)
        if self.level > _MAX_DEPTH:
            raise _TooMuchError(_TOO_DEEP, self.parser.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def _compose(yaml: YAML, source: Source) -> MappingNode:
    yaml.Composer = _Composer
    yaml.composer.warn_double_anchors = (
        False  # YAML 1.2 allows an anchor to be defined again; the last one counts
    )
    try:
        root = yaml.compose(source.text)
    except Exception as error:  # ruamel.yaml raises other errors than its own on garbage
        raise InputError(_syntax_complaint(error, source)) from None
    if root is None or (isinstance(root, ScalarNode) and _is_absent(root)):
        raise InputError(Complaint(f"'{source.name}' is empty; a spec needs at least 'network' and 'data'"))
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, SequenceNode) else "a single value"
        here = source.position(root.start_mark.line, root.start_mark.column)
        message = f"a spec is a mapping with 'network' and 'data'; this is {found}"
        raise InputError(Complaint(message, position=here))
    return root


def _syntax_complaint(error: Exception, source: Source) -> Complaint:
    if isinstance(error, _TooMuchError):
        return Complaint(str(error), position=source.position(error.mark.line, error.mark.column))
    if isinstance(error, ReaderError):
        before = Source(source.name, source.text[: error.position]).lines
        position = source.position(len(before) - 1, len(before[-1]))
        return Complaint(f"this is not YAML: U+{error.character:04X} is not allowed", position=position)
    problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Complaint(f"{source.name}: this is not YAML: {problem}")
    help = "indent with spaces, not with tabs" if "'\\t'" in problem else None
    return Complaint(f"this is not YAML: {problem}", (), help, source.position(mark.line, mark.column))


def _refuse_unbounded(document: Document) -> None:
    """Refuse aliases that contain themselves, or that multiply without bound."""
    count, stack = 0, [(document.root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        problem = None
        if depth > _MAX_DEPTH:
            problem = _TOO_DEEP
        elif count > _MAX_EXPANDED:
            problem = f"with its aliases written out, the spec has more than {_MAX_EXPANDED:,} values"
        elif isinstance(node, MappingNode) and len(node.value) > _MAX_KEYS:
            problem = f"this mapping has {len(node.value):,} keys; no part of a spec has more than a few"
        if problem:
            raise InputError(Complaint(problem, position=document.position(node)))
        stack += [(child, depth + 1) for child in _children(node)]


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        yield from (child for pair in node.value for child in pair)
    elif isinstance(node, SequenceNode):
        yield from node.value


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield a mapping's keys and values, then those merged by `<<`; of equal keys, the first one counts."""
    merged: list[Node] = []
    for key, value in node.value:
        if key.tag == _MERGE:
            merged += value.value if isinstance(value, SequenceNode) else [value]
        else:
            yield key, value
    for other in merged:
        if isinstance(other, MappingNode):
            yield from _pairs(other)


def _is_absent(node: Node) -> bool:
    """Return whether the value is missing, as after a bare `units:`; ruamel.yaml makes it an empty scalar."""
    return bool(node.start_mark.index == node.end_mark.index)


def _child(node: Node, step: str | int) -> tuple[Node | None, Node | None]:
    """Return the key and value nodes one step below `node`."""
    if isinstance(node, MappingNode):
        for key, value in _pairs(node):
            if key.value == step:
                return key, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


# --- values ----------------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"

_Converters = Mapping[str, Callable[[ScalarNode], Any]]


def _converters(yaml: YAML) -> _Converters:
    """Return a converter for the scalars of each tag. Dates, `<<` and `=` become text, as in YAML 1.2."""
    text = ("str", "timestamp", "merge", "value")
    return {
        **{f"{_TAG}{name}": lambda node: node.value for name in text},
        f"{_TAG}null": lambda _: None,
        f"{_TAG}bool": yaml.constructor.construct_yaml_bool,
        f"{_TAG}int": yaml.constructor.construct_yaml_int,
        f"{_TAG}float": yaml.constructor.construct_yaml_float,
    }


@dataclass
class _Values:
    """Converts the tree to plain Python values.

    complaints: one for each node that has no such value.
    """

    document: Document
    converters: _Converters
    complaints: list[Complaint] = field(default_factory=list)

    def of(self, node: Node) -> Any:
        tag = str(node.tag)
        if isinstance(node, MappingNode) and tag == f"{_TAG}map":
            return self._mapping(node)
        if isinstance(node, SequenceNode) and tag == f"{_TAG}seq":
            return [self.of(item) for item in node.value]
        if isinstance(node, ScalarNode) and tag in self.converters:
            return self._scalar(node, tag)
        self._complain(
            node, f"tag '{shortened(tag.replace(_TAG, '!!'))}' is not allowed; a spec is plain data"
        )
        return None

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        self._check_keys(node)
        result: dict[str, Any] = {}
        for key, value in _pairs(node):
            if isinstance(key, ScalarNode) and _is_text(key.value) and key.value not in result:
                result[key.value] = self.of(value)
        return result

    def _check_keys(self, node: MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._complain(key, "a key must be a word")
            elif key.value in lines:
                word = shortened(key.value)
                self._complain(key, f"key '{word}' is already given on line {lines[key.value]}")
            elif key.tag == _MERGE and not _can_be_merged(value):
                self._complain(value, "'<<' needs a mapping, or a list of mappings")
            elif not _is_text(key.value):
                self._complain(key, f"'{shortened(key.value)}' is not Unicode text")
            else:
                lines[key.value] = key.start_mark.line + 1

    def _scalar(self, node: ScalarNode, tag: str) -> Any:
        word = shortened(node.value)
        try:
            value = self.converters[tag](node)
        except Exception:  # the text may not fit its tag: `!!int abc`
            self._complain(node, f"'{word}' cannot be read as {tag.removeprefix(_TAG)}")
            return None
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            self._complain(node, f"the number {word} is too large")
            return None
        if isinstance(value, str) and not _is_text(value):
            self._complain(node, f"'{word}' is not Unicode text")
            return None
        return value

    def _complain(self, node: Node, message: str) -> None:
        self.complaints.append(Complaint(message, position=self.document.position(node)))


def _can_be_merged(value: Node) -> bool:
    sources = value.value if isinstance(value, SequenceNode) else [value]
    return all(isinstance(source, MappingNode) for source in sources)


def _is_text(value: str) -> bool:
    """Return whether the string is valid Unicode; a YAML escape can produce half a surrogate pair."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
