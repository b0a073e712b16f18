"""Convert the YAML tree of a spec to plain Python values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gradcheck_cli.errors import Complaint, shortened
from gradcheck_cli.spec.tree import MERGE, TAG, Document, pairs

_MAX_BITS = 1100
"""The largest number of bits in an integer. It exceeds the range of a float, but Python can print it."""

Converters = Mapping[str, Callable[[ScalarNode], Any]]


def converters_of(yaml: YAML) -> Converters:
    """Return a dict from each YAML tag to a function that converts its scalars.

    Dates, `<<` and `=` become text, as in YAML 1.2.
    """
    text = ("str", "timestamp", "merge", "value")
    return {
        **{f"{TAG}{name}": lambda node: node.value for name in text},
        f"{TAG}null": lambda _: None,
        f"{TAG}bool": yaml.constructor.construct_yaml_bool,
        f"{TAG}int": yaml.constructor.construct_yaml_int,
        f"{TAG}float": yaml.constructor.construct_yaml_float,
    }


@dataclass
class Values:
    """Converts the nodes of a YAML tree to plain Python values.

    complaints: one complaint for each node that cannot be converted.
    """

    document: Document
    converters: Converters
    complaints: list[Complaint] = field(default_factory=list)

    def of(self, node: Node) -> Any:
        tag = str(node.tag)
        if isinstance(node, MappingNode) and tag == f"{TAG}map":
            return self._mapping(node)
        if isinstance(node, SequenceNode) and tag == f"{TAG}seq":
            return [self.of(item) for item in node.value]
        if isinstance(node, ScalarNode) and tag in self.converters:
            return self._scalar(node, tag)
        self._complain(
            node, f"tag '{shortened(tag.replace(TAG, '!!'))}' is not allowed; a spec is plain data"
        )
        return None

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        self._check_keys(node)
        result: dict[str, Any] = {}
        for key, value in pairs(node):
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
            elif key.tag == MERGE and not _can_be_merged(value):
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
            self._complain(node, f"'{word}' cannot be read as {tag.removeprefix(TAG)}")
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
    """Return whether a string is valid Unicode; a YAML escape can produce half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
