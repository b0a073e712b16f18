"""A spec for every exit code of `check`, and what tests of commands share."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gradcheck_cli.cli import progress

NETWORK = """\
network:
  inputs: 3
  layers:
    - {units: 4, activation: ACTIVATION}
    - {units: 2, activation: ACTIVATION}
  loss: mse
parameters: {init: INIT, seed: 1}
data: {synthetic: normal, samples: 5, seed: 2}
"""
GOOD = NETWORK.replace("ACTIVATION", "sigmoid").replace("INIT", "xavier")
UNDECIDED = NETWORK.replace("ACTIVATION", "relu").replace("INIT", "zeros")
TINY = "network: {inputs: 1, layers: [{units: 1}], loss: mse}\ndata: {synthetic: normal, samples: 2}\n"
WRONG = GOOD + "gradients: {file: wrong.npz}\n"
BAD = GOOD.replace("activation", "activaton", 1)

CODES = {"good.yaml": 0, "wrong.yaml": 1, "bad.yaml": 2, "undecided.yaml": 3}

SLOW = """
import os, time
import numpy as np

parameters = {"w": np.ones((30, 40))}


def f(parameters, x, y):
    open(f"pid-{os.getpid()}", "w").close()
    time.sleep(0.05)
    return (parameters["w"] ** 2).sum(axis=1), {"w": 2 * parameters["w"]}
"""


def save(path: Path, right: dict[str, np.ndarray], **changed: np.ndarray) -> None:
    np.savez(path, **{**right, **changed})


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict:
        return strict(self.out)


def strict(text: str) -> dict:
    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


def checked(document: dict) -> list[str]:
    return [tensor["name"] for tensor in document["specs"][0]["tensors"]]


def raising(error: BaseException):
    def fail(*_: object) -> None:
        raise error

    return fail


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def progress_of(
    stream: io.StringIO, seconds: Sequence[float], monkeypatch, title: str = "folder/net.yaml"
) -> str:
    """Return what the progress of 100 evaluations writes.

    seconds: the clock's reading at each report.
    """
    clock = iter([0.0, *seconds])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress(title) as bar:
        bar.expect(100)
        for _ in seconds:
            bar.advance(100 // len(seconds))
    return stream.getvalue()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
