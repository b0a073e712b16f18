"""Run the command on randomly broken input: it must end with a verdict, or with exit code 2 and a message.

python tests/fuzzing.py --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic, process_time
from typing import Any

import broken_arrays
import broken_text
import numpy as np
from safetensors.numpy import save

from gradcheck_cli import cli
from gradcheck_cli.cli import each_spec
from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.spec.data import SyntheticData
from gradcheck_cli.spec.gradients import Backprop
from gradcheck_cli.spec.spec import Spec

SECONDS = 2.0
"""Processor time, in seconds, that a single input may take."""
MEBIBYTES = 500.0
"""The number of MiB by which the process may grow."""
LARGEST = 20_000
"""A valid spec is not run if its weights or activations have more numbers than this: it may take longer."""

SHAPES = {"hidden1.weight": (4, 3), "hidden1.bias": (4,), "output.weight": (2, 4), "output.bias": (2,)}

NETWORK = """\
network:
  inputs: 3
  layers:
    - {units: 4, activation: {name: leaky_relu, negative_slope: 0.1}, batch_norm: {eps: 1.0e-3}, name: a}
    - {units: 2, activation: sigmoid}
  loss: {name: huber, reduction: mean, scale: 0.5, delta: 2}
  penalty: {l2: 0.1, l1: 1.0e-3, biases: true}
parameters: {init: uniform, seed: 1, scale: 0.5, bias: same}
data: {synthetic: normal, samples: 4, seed: 2, scale: 1.5}
check: {scheme: central, step: 1.0e-5, rtol: 1.0e-6, atol: 0, parameters: ["a.*", output.bias], strict: false}
dtype: float32
"""
INLINE = """\
gradients: {source: backprop}
network:
  inputs: 2
  layers: [{units: 3}]
  loss: {name: cross_entropy, label_smoothing: 0.1, weight: [1, 2, 0.5]}
data:
  x: [[1, -2], [0.5, 3]]
  y: [0, 2]
  rescale: {from: [0, 1], to: [-1, 1]}
"""
FILES = """\
network: {inputs: 3, layers: [{units: 4, activation: tanh}, {units: 2}], loss: mse}
parameters: {file: parameters.npz, layout: out_in}
data: {file: data.npz, x: x, y: y, start: 0, batch: 4}
gradients:
  file: gradients.npz
  names: {output.bias: output.bias}
"""
GIVEN = """\
network:
  inputs: [2, 2]
  layers:
    - {units: 4, batch_norm: {running_mean: {file: given.npz}, running_var: {file: given.npz}}}
    - {dropout: 0.5, mask: {file: given.npz}}
    - {attention: 2, key_padding_mask: {file: given.npz}, rotary: true}
    - {lstm: 2, h0: {file: given.npz}, c0: {file: given.npz, array: h0}}
    - {units: 2}
  loss: {name: cross_entropy, sample_weight: {file: given.npz}}
data: {synthetic: normal, samples: 3}
"""
CODE = "gradients: {python: code.py:f, vectorized: false}\nparameters: {file: parameters.npz}\n"

PROJECT = """\
[project]
name = "x"
[tool.gradcheck]
scheme = "five-point"
step = 1e-4
rtol = 1e-6
atol = 1e-9
strict = false
fast = true
jobs = 1
memory = 256
only = ["output.*", "*.weight"]
differences = "units"
color = "never"
"""


def fixed(file: str) -> str:
    """Return the spec, with another gradient file."""
    return FILES.replace("gradients.npz", file).replace("  names: {output.bias: output.bias}\n", "")


@dataclass(frozen=True)
class Subject:
    """A file to break, and the spec that refers to it."""

    file: str
    spec: str
    breaks: Callable[[Random], bytes]


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def given() -> dict[str, np.ndarray]:
    """Return the arrays that a spec gives to its layers and to its loss."""
    return {
        "running_mean": np.zeros(4),
        "running_var": np.ones(4),
        "mask": np.ones((3, 2, 4), dtype=bool),
        "key_padding_mask": np.array([[0, 1], [0, 0], [1, 0]]),
        "h0": np.full((1, 3, 2), 0.1),
        "sample_weight": np.array([1.0, 0.5, 2.0]),
    }


def batch() -> dict[str, np.ndarray]:
    return {"x": np.ones((5, 3)), "y": np.zeros((5, 2))}


SUBJECTS = {
    "spec": Subject(
        "net.yaml", NETWORK, broken_text.breaker([NETWORK, INLINE, FILES, CODE, GIVEN], broken_text.YAML)
    ),
    "tree": Subject("net.yaml", NETWORK, broken_text.tree_breaker([NETWORK, INLINE, FILES, GIVEN])),
    "project": Subject("pyproject.toml", INLINE, broken_text.breaker([PROJECT], broken_text.TOML)),
    "parameters": Subject("parameters.npz", fixed("gradients.npz"), broken_arrays.npz_breaker(arrays())),
    "gradients": Subject("gradients.npz", fixed("gradients.npz"), broken_arrays.npz_breaker(arrays())),
    "data": Subject("data.npz", fixed("gradients.npz"), broken_arrays.npz_breaker(batch())),
    "given": Subject("given.npz", GIVEN, broken_arrays.npz_breaker(given())),
    "npy": Subject("folder/output.bias.npy", fixed("folder"), broken_arrays.npy_breaker(np.ones(2))),
    "safetensors": Subject(
        "gradients.safetensors", fixed("gradients.safetensors"), broken_arrays.safetensors_breaker(arrays())
    ),
}
"""The files to break, by name: one of every kind that the command reads."""


# --- one input ---------------------------------------------------------------------------------------------


class TooLongError(BaseException):
    """Raised by the clock. It is a BaseException, so that the command does not catch it as an error."""


@dataclass
class Found:
    """The outcomes of all inputs, by subject and exit code, and the faults among them."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    slowest: float = 0.0
    grown: float = 0.0

    @property
    def inputs(self) -> int:
        return sum(self.ends.values())


@dataclass(frozen=True)
class Ending:
    """The exit code, output and resource use of one run of the command."""

    code: int
    out: str
    err: str
    seconds: float
    own: bool
    large: bool

    @property
    def fault(self) -> str:
        """A description of the fault; empty if the run ended as it should."""
        if self.code not in (0, 1, 2, 3):
            return f"exit code {self.code}"
        if "Traceback" in self.err:
            return "a traceback"
        if self.code == 2 and "error" not in self.err:
            return "no message"
        if self.code == 1 and self.own:
            return "gradcheck's own gradients are called wrong"
        if self.seconds > SECONDS:
            return f"{self.seconds:.1f} s"
        if steering := STEERING.search(self.out + self.err):
            return f"{steering[0]!r} reaches the terminal"
        return ""


STEERING = re.compile(
    r"[^\n\x20-\x7e\xa1-\u2027\u2030-\ud7ff\ue000-\U0010ffff]|[\u202a-\u202e]|^\s*(?:::|##\[)", re.M
)
"""Matches text that a terminal, or the log of a CI job, would interpret as a command."""


def ending_of(arguments: Sequence[str]) -> Ending:
    """Run the command in this process."""
    out, err, specs = io.StringIO(), io.StringIO(), []
    with _watched(specs), _clock(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        start = process_time()
        try:
            cli.main(arguments)
        except SystemExit as left:
            code = int(left.code or 0)
        except TooLongError:
            code, _ = -1, err.write(traceback.format_exc())
    seconds = process_time() - start
    own = bool(specs) and isinstance(specs[-1].gradients, Backprop)
    large = bool(specs) and numbers(specs[-1]) > LARGEST
    return Ending(code, out.getvalue(), err.getvalue(), seconds, own, large)


@contextlib.contextmanager
def _clock() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, 10 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _watched(specs: list[Spec]) -> Iterator[None]:
    """Record the specs that are checked, and refuse large ones."""
    usual = each_spec.run_apart

    def run(spec: Spec, *arguments: Any) -> Any:
        specs.append(spec)
        if numbers(spec) > LARGEST:
            raise InputError(Complaint("error: valid, and large"))
        return usual(spec, *arguments)

    each_spec.run_apart = run
    try:
        yield
    finally:
        each_spec.run_apart = usual


def numbers(spec: Spec) -> int:
    """Return the size of the largest weight, or of all activations if larger, according to the spec."""
    if spec.network is None:
        return 0
    layers = ([x for x in layer.options.values() if type(x) is int] for layer in spec.network.layers)
    widths = [math.prod(spec.network.features), *(max(sizes, default=1) for sizes in layers)]
    samples = spec.data.samples if isinstance(spec.data, SyntheticData) else 5
    return max(samples * sum(widths), sum(a * b for a, b in pairwise(widths)))


# --- many --------------------------------------------------------------------------------------------------


def fuzz(seconds: float, seed: int, only: str = "", keep: Path | None = None) -> Found:
    """Break files for some seconds.

    only: limits the subjects to these, separated by commas.
    """
    found, rng = Found(), Random(seed)
    names = only.split(",") if only else list(SUBJECTS)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(Path())
        ending_of(["check", "net.yaml"])  # modules that load only once must not count for the first input
        before, start = _peak(), monotonic()
        while monotonic() - start < seconds:
            name = rng.choice(names)
            once(name, rng.getrandbits(64), found, before, keep)
        os.chdir("/")
    return found


def once(name: str, seed: int, found: Found, before: float, keep: Path | None = None) -> None:
    """Run one input of this subject."""
    subject, at = SUBJECTS[name], Path(SUBJECTS[name].file)
    content = subject.breaks(Random(seed))
    prepare(Path(), subject)
    at.write_bytes(content)
    peak = _peak()
    ending = ending_of(
        ["check", "--format", Random(seed).choice(["table", "json", "markdown", "junit"]), "net.yaml"]
    )
    at.unlink()
    found.ends[f"{name}: {'large' if ending.large else ending.code}"] += 1
    found.slowest, found.grown = max(found.slowest, ending.seconds), _peak() - before
    fault = ending.fault or (
        f"{_peak() - before:.0f} MiB" if _peak() > peak and _peak() - before > MEBIBYTES else ""
    )
    if fault:
        found.faults.append({"subject": name, "seed": seed, "fault": fault, "says": ending.err[-1500:]})
        if keep:
            (keep / f"{name}-{seed}").write_bytes(content)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def prepare(folder: Path, subject: Subject = SUBJECTS["gradients"]) -> None:
    """Write all files that the spec of the subject refers to, unbroken."""
    (folder / "net.yaml").write_text(subject.spec)
    if (folder / "folder").exists() and subject.file == "net.yaml":
        return
    (folder / "folder").mkdir(exist_ok=True)
    for name, array in arrays().items():
        np.save(folder / "folder" / f"{name}.npy", array)
    np.savez(folder / "parameters.npz", **arrays())
    np.savez(folder / "gradients.npz", **arrays(1))
    np.savez(folder / "data.npz", **batch())
    np.savez(folder / "given.npz", **given())
    (folder / "gradients.safetensors").write_bytes(save(arrays(1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help=f"some of {', '.join(SUBJECTS)}")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that ended in a fault")
    given = parser.parse_args()
    if given.keep:
        given.keep = given.keep.absolute()
    found = fuzz(given.seconds, given.seed, given.only, given.keep)
    document = {
        "inputs": found.inputs,
        "ends": dict(sorted(found.ends.items())),
        "slowest_s": round(found.slowest, 3),
        "grown_mib": round(found.grown, 1),
        "faults": found.faults,
    }
    print(json.dumps(document, indent=1))
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    main()
