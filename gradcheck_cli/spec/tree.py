"""Parse a spec into a YAML tree whose nodes have positions and whose size is limited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from gradcheck_cli.errors import Complaint, InputError, Position
from gradcheck_cli.spec.text import Source

_MAX_NODES = 15_000
"""The largest number of values in a spec; ruamel.yaml reads this many in two seconds."""
_MAX_EXPANDED = 1_000_000
"""The largest number of values in a spec once all aliases are expanded."""
_MAX_DEPTH = 64
_MAX_KEYS = 1000

TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"


@dataclass(frozen=True)
class Document:
    """A YAML document as text and as a tree of nodes with positions."""

    source: Source
    root: Node

    def located(self, complaint: Complaint, at_key: bool = False) -> Complaint:
        """Return the complaint with a position in the file.

        If the file does not contain the whole location, the position is that of the deepest part that does
        exist.
        at_key: whether to point at the key instead of its value.
        """
        if complaint.position is not None:
            return complaint
        key, node, depth = None, self.root, 0
        for step in complaint.where:
            child_key, child = _child(node, step)
            if child is None:
                break
            key, node, depth = child_key, child, depth + 1
        if complaint.where and depth == 0:  # the complaint concerns a default, which has no place in the file
            return replace(complaint, where=(), message=f"{self.source.name}: {complaint.message}")
        if key is not None and at_key and depth == len(complaint.where):
            return replace(complaint, position=self.position(key))
        return replace(complaint, position=self._position_of_value(key, node))

    def _position_of_value(self, key: Node | None, value: Node) -> Position:
        """Return the position at which a value begins; an empty value begins right after its key.

        The parser's own position of an empty value may be several lines further down.
        """
        if key is not None and _is_absent(value):
            return self.source.position(key.end_mark.line, key.end_mark.column + 1)
        return self.position(value)

    def position(self, node: Node) -> Position:
        return self.source.position(node.start_mark.line, node.start_mark.column)


def read_tree(yaml: YAML, source: Source) -> Document:
    """Parse the text of a spec. Raises an `InputError` if it is not YAML, not a mapping, or too large."""
    document = Document(source, _compose(yaml, source))
    _refuse_unbounded(document)
    return document


class _TooMuchError(Exception):
    """Raised if the YAML has more values or levels than a spec may have.

    mark: the place of the first value or level over the limit.
    """

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.mark = mark


_TOO_DEEP = "the spec is nested too deeply, or contains itself through an alias"


class _Composer(Composer):
    """A YAML composer that rejects a file if reading the file would overflow the stack or take minutes."""

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
    # YAML 1.2 allows an anchor to be defined again; the last one counts
    yaml.composer.warn_double_anchors = False
    try:
        root = yaml.compose(source.text)
    except Exception as error:  # on garbage, ruamel.yaml also raises errors of other types
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
        return Complaint(
            f"this is not YAML: the character U+{error.character:04X} is not allowed", position=position
        )
    problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Complaint(f"{source.name}: this is not YAML: {problem}")
    help = "indent with spaces, not with tabs" if "'\\t'" in problem else None
    return Complaint(f"this is not YAML: {problem}", (), help, source.position(mark.line, mark.column))


def _refuse_unbounded(document: Document) -> None:
    """Raise an `InputError` if an alias contains itself, or if aliases make the spec too large."""
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


def pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield the keys and values of a mapping, then the keys and values that `<<` merges into the mapping.

    If a key is repeated, the first one counts.
    """
    merged: list[Node] = []
    for key, value in node.value:
        if key.tag == MERGE:
            merged += value.value if isinstance(value, SequenceNode) else [value]
        else:
            yield key, value
    for other in merged:
        if isinstance(other, MappingNode):
            yield from pairs(other)


def _is_absent(node: Node) -> bool:
    """Return whether a value is missing, as after a bare `units:`. ruamel.yaml returns an empty scalar."""
    return bool(node.start_mark.index == node.end_mark.index)


def _child(node: Node, step: str | int) -> tuple[Node | None, Node | None]:
    """Return the key node and the value node one step below `node`.

    In a list, the key node is None. If `node` has no such key or index, both nodes are None.
    """
    if isinstance(node, MappingNode):
        for key, value in pairs(node):
            if key.value == step:
                return key, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None
