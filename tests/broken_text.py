"""Text broken at random: bytes, words, and the tree of a spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

import ruamel.yaml

YAML = [
    "!foo ", "!!str ", "!!int ", "!!float ", "!!null ", "!!bool ", "!!binary ", "!!omap ", "!!set ",
    "!!merge ", "!!python/object:os.system ", "!<tag:x> ", "!", "&a ", "*a", "&a [*a]", "<<: *a\n",
    "<<: {units: 2}\n", "<<", "=", "? ", ": ", "- ", "| ", ">-\n", "%YAML 1.1\n", "%TAG ! x\n", "---\n",
    "...\n", "\t", "#", "'", '"', "[", "]", "{", "}", ",", "\r", "\r\n", "\n", "\n\n  ", "~", "null", "yes",
    "on", "true", ".inf", "-.inf", ".nan", "1e400", "-1", "0", "0x10", "0o17", "0b1", "1_000", "1:30",
    "2001-01-01", "1e", "+", "9" * 400, "9" * 5000, "1" + "0" * 18, "-" + "9" * 30, "1e-400", "5e-324",
    "1.7976931348623157e308", "\x1b[31m", "\x9b", "\x07", "\0", "\ufeff", "\u202e", "\u2028", "\x85", "\xa0",
    "é", "∂", "\U0001f600", '"\\ud800"', '"\\x1b]0;x\\a"', '"\\0"', "::error::x", "##[error]x", "%0A",
    "x" * 2000, "[" * 70, "{a: " * 70, "- " * 70, "gradients: ", "network: ", "names: ", "python: code.py:f",
    "file: /dev/zero", "file: .", "file: ~nobody/x", "torch: code.py:f", "units: ", "[1, 2]", "{}", "[]",
    "file: parameters.npz", "relu", "ReLU", "softmax", "cross_entropy", "hinge", "zeros", "complex",
]  # fmt: skip
TOML = [
    "[", "]", "[[", "=", '"', "'", "'''", '"""', "#", "\n", "\r", "\t", "\0", "\x1b", "\x9b", "\u202e",
    "\ufeff", "é", "[tool.gradcheck]\n", "[tool]\ngradcheck = 1\n", "[tool.gradcheck.x]\n",
    "tool.gradcheck = []\n", "inf", "-inf", "nan", "1e400", "9" * 30, "9" * 5000, "-1", "0", "true", "false",
    "[]", "{}", "{a = 1}", "[[1]]", '["a", 1]', "1979-05-27", "07:32:00", "0x10", "1_0", '"\\u0000"',
    '"\\u001b"', "jobs = ", "step = ", "timeout = ", "format = ", "show = ", "report = ", "gradients = ",
    "seed = ", "heatmap = ", "sample = ", '"auto"', '"::error::x"', "a.b.c = ", "x" * 2000,
]  # fmt: skip

Breaker = Callable[[Random], bytes]


def breaker(texts: Sequence[str], words: Sequence[str]) -> Breaker:
    """Return a function that breaks one of the texts in up to six places."""

    def broken(rng: Random) -> bytes:
        content = bytearray(rng.choice(texts).encode())
        for _ in range(rng.choice([1, 1, 2, 3, 6])):
            rng.choice([_bytes, _word, _word, _number])(content, rng, words)
        return bytes(content)

    return broken


def _bytes(content: bytearray, rng: Random, words: Sequence[str]) -> None:
    break_bytes(content, rng)


def break_bytes(content: bytearray, rng: Random) -> None:
    """Flip, cut, double, move or add some bytes."""
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice([1, 1, 2, 4, 16, 64]))
    piece = bytes(content[start:end])
    how = rng.randrange(6)
    if how == 0 and piece:
        content[start] ^= 1 << rng.randrange(8)
    elif how == 1:
        del content[start:end]
    elif how == 2:
        content[start:start] = piece * rng.choice([1, 2, 50])
    elif how == 3:
        content[start:end] = rng.randbytes(len(piece))
    elif how == 4:
        del content[start:end]
        other = rng.randrange(len(content) + 1)
        content[other:other] = piece
    else:
        del content[start:]


def _word(content: bytearray, rng: Random, words: Sequence[str]) -> None:
    start = rng.randrange(len(content) + 1)
    content[start : start + rng.choice([0, 0, 1, 3])] = rng.choice(words).encode()


def _number(content: bytearray, rng: Random, words: Sequence[str]) -> None:
    """Return another number to replace this one."""
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    if places:
        place = rng.choice(places)
        content[place : place + 1] = rng.choice(
            ["0", "-1", "1e9", "1e-9", "1000001", "2.5", ".nan", "9" * 40]
        ).encode()


# --- the tree ----------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 5, 0.5, -0.0, 1e-300, 1e300, 5e-324, 10**6, 10**9, 10**18, 10**400,
    -(10**30), "", " ", "x", "relu", "tanh", "softmax", "gelu", "elu", "mse", "l1", "hinge",
    "bce_with_logits", "cross_entropy", "complex", "adaptive", "float32", "normal", "zeros", "*", "output.*",
    "a\nb", "\x1b[2J", "\u202e", "é", "::error::x", "~", "/", ".", "..", "nothere.npz", "x" * 300, [], {},
    [1], [[1, 2], [3, 4]], [[1], [2, 3]], ["a"], {"name": "relu"}, {"file": "parameters.npz"},
    {"synthetic": "normal"}, {"a": {"b": [1]}}, [None], [1, "a"], [0] * 200, [[0.0] * 3] * 5,
]  # fmt: skip


TAGS = ["!foo ", "!!str ", "!!int ", "!!map ", "!!seq ", "!!float ", "!!null ", "&a ", "*a #\n"]


def tree_breaker(texts: Sequence[str]) -> Breaker:
    """Return a function that changes values, keys and types in a spec's tree and writes it as YAML."""
    trees = [ruamel.yaml.YAML(typ="safe", pure=True).load(text) for text in texts]

    def broken(rng: Random) -> bytes:
        tree = deepcopy(rng.choice(trees))
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            places = list(_places(tree))
            if places:
                _break_at(*rng.choice(places), rng, trees)
        return written(tree, rng).encode("utf-8", "surrogatepass")

    return broken


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _break_at(parent: Any, key: Any, rng: Random, trees: Sequence[Any]) -> None:
    how, kin = rng.randrange(9), [value for value in VALUES if type(value) is type(parent[key])]
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[rng.choice(["x", "units", "name", "", "file", str(key).upper(), f"{key}s", "<<", "é"])] = (
            parent[key]
        )
    elif how == 2:
        parent[key] = [parent[key]] * rng.choice([1, 2, 40])
    elif how == 3:
        parent[key] = {rng.choice(["name", "file", "x"]): parent[key]}
    elif how == 4:
        other, where = rng.choice(list(_places(rng.choice(trees))))
        parent[key] = deepcopy(other[where])
    else:
        parent[key] = deepcopy(rng.choice(kin if how > 5 and kin else VALUES))


def written(value: Any, rng: Random) -> str:
    """Write the value as flow YAML, sometimes with a tag, an anchor or an alias."""
    before = rng.choice(TAGS) if rng.random() < 0.01 else ""
    if isinstance(value, dict):
        pairs = [f"{_scalar(key, rng)}: {written(item, rng)}" for key, item in value.items()]
        return before + "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return before + "[" + ", ".join(written(item, rng) for item in value) + "]"
    return before + _scalar(value, rng)


def _scalar(value: Any, rng: Random) -> str:
    if isinstance(value, str) and value.isidentifier() and rng.random() < 0.8:
        return value
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)
