"""Errors come in the order of the file, no matter which part of the program finds them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from gradcheck_cli.cli.changes import located
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.file import read_spec
from gradcheck_cli.subject.load import subject_of

SECTIONS = {
    "network": (
        "network: {inputs: 4, layers: [{units: 3, nme: b}], loss: {name: mse, delta: 3}}",
        "network:\n  loss: {reduction: men}\n  layers:\n    - units: -1\n    - {}\n  penalty: {l2: -1}",
        "network: {layers: [{units: 3, name: a}, {units: 2, name: a}], inputs: 4, loss: mse}",
        "network: {layers: [{units: 3}], loss: mse, inputs: 4}",
    ),
    "data": (
        "data: {x: [[1, 2, 3]], y: [1]}",
        "data: {file: no.npz, start: -1}",
        "data: {synthetic: nrmal}",
        "data: {y: [[1, 2, 3]], x: [[1, 2, 3, 4]]}",
    ),
    "parameters": (
        "parameters: {file: no.npz, layout: io}",
        "parameters: {init: xvier}",
        "parameters: {file: arrays.npz, names: {a: b, c: b}}",
    ),
    "gradients": (
        "gradients: {file: nix.npz, names: {q: zz, r: zz}}",
        "gradients: {python: x}",
        "gradients: {file: arrays.npz}",
    ),
    "check": ("check: {rtol: -1, parameters: [a, b]}", "check: {parameters: [x.*, output.weigt], jobs: 0}"),
    "unknown": ("dtype: float16", "zzz: 1"),
}


def complaints_about(text: str) -> InputError | None:
    Path("net.yaml").write_text(text, encoding="utf-8")
    try:
        read = read_spec("net.yaml")
        with located(read, {}):
            subject_of(read.spec)
    except InputError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(100))
def test_errors_are_in_the_order_of_the_file(seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("arrays.npz", a=np.zeros(3), other=np.zeros((2, 2)))
    drawn = random.Random(seed)
    sections = drawn.sample(list(SECTIONS), k=drawn.randint(3, len(SECTIONS)))
    error = complaints_about("\n".join(drawn.choice(SECTIONS[name]) for name in sections) + "\n")
    assert error is not None
    places = [(each.position.line, each.position.column) for each in error.complaints if each.position]
    assert len(places) == len(error.complaints)
    assert places == sorted(places)
