"""Any spec and any text is read or refused with presentable complaints."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
from spec_text import refused, written

from gradcheck_cli.errors import InputError
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.file import read_spec

INLINE = {
    "network": {
        "inputs": 2,
        "layers": [
            {"units": 2, "activation": "tanh", "name": "h"},
            {"units": 2, "activation": {"name": "elu", "alpha": 0.5}},
        ],
        "loss": {"name": "cross_entropy", "scale": 0.5, "label_smoothing": 0.1, "weight": [1, 2.0]},
        "penalty": {"l2": 0.1, "biases": True},
    },
    "parameters": {"init": "normal", "scale": 0.1, "seed": 3, "bias": "same"},
    "data": {"x": [[1, 2], [0.5, 1]], "y": [0, 1], "rescale": {"from": [0, 1], "to": [-1, 1]}},
    "gradients": {"source": "backprop"},
    "check": {"parameters": ["h.*"], "scheme": "central", "step": 1e-5, "rtol": 1e-4, "seed": 1},
    "dtype": "float32",
}
FILES = {
    "network": {"inputs": 2, "layers": [{"units": 2, "name": "h"}], "loss": "mse"},
    "parameters": {"file": "w.npz"},
    "data": {"file": "d.npz", "x": "x", "y": "y", "start": 1, "batch": 2},
}
VALUES = [
    None, [], {}, "", True, 0, -1, 0.5, 10**7, -(10**400), 1e308, float("nan"), float("-inf"),
    "~nobody-of-this-name/x", "/", "\0", "\ud800", "*", "d.npz", [None], [[1], [2, 3]], [1e308, -1e308],
    {"name": 1}, {"file": "."}, {"x": [[1]], "y": [1]},
]  # fmt: skip
KEYS = ["", "unit", "x" * 300, "\x1b", "\ud800", "file"]


def paths(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def mutated(spec, path, change):
    """Return a copy of the spec after change(container of the path's last step, that step)."""
    spec = copy.deepcopy(spec)
    container = spec
    for step in path[:-1]:
        container = container[step]
    change(container, path[-1])
    return spec


def rename(new):
    def change(container, key):
        if isinstance(container, dict):
            items = [(new if k == key else k, v) for k, v in container.items()]
            container.clear()
            container.update(items)

    return change


def delete(container, key):
    del container[key]


def replace_by(value):
    def change(container, key):
        container[key] = copy.deepcopy(value)

    return change


CHANGES = {
    "deleted": delete,
    **{f"is {value!r:.20}": replace_by(value) for value in VALUES},
    **{f"key {key!r:.10}": rename(key) for key in KEYS},
}


def dump(value) -> str:
    """Write JSON, which is YAML except for numbers that JSON lacks."""
    text = json.dumps(value, indent=1)
    return text.replace("NaN", ".nan").replace("Infinity", ".inf").replace("-.inf", " -.inf")


def check_complaints(error: InputError, lines: list[str]) -> None:
    assert error.complaints
    for complaint in error.complaints:
        assert complaint.message
        assert len(complaint.message) < 400
        assert "Input should" not in complaint.message
        if complaint.position is not None:
            assert complaint.position.text == lines[complaint.position.line - 1]
            assert 1 <= complaint.position.column <= len(complaint.position.text) + 1
    assert len({(c.position, c.message) for c in error.complaints}) == len(error.complaints)


def read_and_build(text: str) -> bool:
    """Return whether the text is a good spec; the complaints about a bad one must be presentable."""
    try:
        read = read_spec(written(text.encode("utf-8", "surrogatepass")))
        try:
            build_problem(read.spec)
        except InputError as error:
            raise read.located(error) from None
    except InputError as error:
        check_complaints(error, text.split("\n"))
        return False
    return True


@pytest.fixture
def arrays(folder):
    rng = np.random.RandomState(0)
    np.savez(folder / "d.npz", x=rng.randn(5, 2), y=rng.randint(2, size=5))
    np.savez(folder / "w.npz", **{"h.weight": rng.randn(2, 2), "h.bias": rng.randn(2)})


@pytest.mark.parametrize("spec", [INLINE, FILES], ids=["inline", "files"])
def test_the_specs_to_be_mutated_are_good(arrays, spec):
    assert read_and_build(dump(spec))


@pytest.mark.parametrize("name", CHANGES)
def test_any_spec_is_read_or_refused(arrays, name):
    good = [
        read_and_build(dump(mutated(spec, path, CHANGES[name])))
        for spec in (INLINE, FILES)
        for path in paths(spec)
    ]
    assert not all(good)


def test_any_text_is_read_or_refused(arrays):
    letters = "ab01:-[]{},&*!|>'\"%@`#? \t\n.\\~<=é\x85\u2028\U0001f600/_+e"
    original = (
        "network:\n  inputs: 2\n  layers:\n    - {units: 2, name: h}\n  loss: {name: huber, delta: 1e-1}\n"
        "data: {file: 'd.npz', rescale: {from: [0, 1], to: [-1, 1]}}  # half\ncheck: {parameters: ['h.*']}\n"
    )
    rng = random.Random(0)
    good = 0
    for _ in range(400):
        text = list(original)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 5])] = rng.choice([rng.choice(letters), ""])
        good += read_and_build("".join(text))
    assert 0 < good < 400


def test_random_bytes_are_refused():
    rng = random.Random(0)
    for _ in range(200):
        data = bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
        assert refused(data).complaints
