"""Thousands of broken files, with a new seed in every run: each ends in a verdict or a message.

Each subject has its own process, because the peak memory of a process never falls.
`python tests/fuzzing.py --seconds 1800` is the long run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from paths import ROOT
from processes import PATIENCE

pytest.importorskip("resource")
pytest.importorskip("safetensors")

import fuzzing

SEED = Random(os.environ.get("GRADCHECK_FUZZ_SEED") or None).getrandbits(32)
"""A new seed in every run; a failure reports it together with the seed of the input."""


def fuzzed(subject: str, seconds: float) -> dict:
    script, options = str(ROOT / "tests" / "fuzzing.py"), ["--seconds", str(seconds), "--seed", str(SEED)]
    done = subprocess.run(
        [sys.executable, script, "--only", subject, *options],
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE + seconds,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("subject", fuzzing.SUBJECTS)
def test_every_broken_file_ends_in_a_verdict_or_a_message(subject):
    found = fuzzed(subject, 1.0)
    assert found["faults"] == [], f"seed {SEED}"
    ends = {end.rpartition(" ")[2] for end in found["ends"]}
    assert found["inputs"]
    assert "2" in ends or found["inputs"] < 20  # otherwise nothing was broken


@pytest.mark.parametrize("subject", fuzzing.SUBJECTS)
def test_a_seed_gives_the_same_input_again(subject):
    breaks = fuzzing.SUBJECTS[subject].breaks
    assert breaks(Random(7)) == breaks(Random(7))
    assert len({breaks(Random(seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        ({}, ""),
        ({"code": 0, "err": ""}, ""),
        ({"code": 70}, "exit code 70"),
        ({"code": -1}, "exit code -1"),
        ({"err": "error: x\nTraceback (most"}, "a traceback"),
        ({"err": ""}, "no message"),
        ({"code": 1, "own": True}, "gradcheck's own gradients are called wrong"),
        ({"code": 1, "own": False}, ""),
        ({"seconds": 3.0}, "3.0 s"),
        ({"out": "a\x1b[2Jb"}, r"'\x1b' reaches the terminal"),
        ({"out": "a\n  ::error::x"}, "'  ::' reaches the terminal"),
    ],
)
def test_forbidden_endings_are_detected(ending, fault):
    usual = {"code": 2, "out": "", "err": "error: x", "seconds": 0.1, "own": True, "large": False}
    assert fuzzing.Ending(**{**usual, **ending}).fault == fault


def test_excessive_memory_is_detected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzzing, "MEBIBYTES", 0.0)
    peaks = iter([10.0, 20.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr(fuzzing, "_peak", lambda: next(peaks))
    found = fuzzing.Found()
    fuzzing.once("spec", 1, found, 5.0)
    assert [fault["fault"] for fault in found.faults] == ["15 MiB"]


def test_hangs_are_ended_and_detected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzzing.prepare(Path())
    monkeypatch.setattr(fuzzing, "SECONDS", 0.02)

    def hang(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzzing.cli, "main", hang)
    assert fuzzing.ending_of(["check", "net.yaml"]).fault == "exit code -1"
