"""What a terminal shows during a check."""

from __future__ import annotations

import io
import re
import signal
import sys

import pytest
from command_specs import (
    Terminal,
    progress_of,
)
from processes import POSIX, ended, everything, on_terminal

from gradcheck_cli.cli import progress


@POSIX
def test_a_terminal_gets_color_and_lines_of_its_width(folder):
    with on_terminal("check", "wrong.yaml", columns=60) as (process, texts):
        text = everything(texts)
        assert ended(process) == 1
    assert "\x1b[1;31m" in text
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 60
    assert "  tensor          shape  rel error  worst entry  verdict" in map(str.rstrip, lines)


@POSIX
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_that_wants_no_color_gets_none(variables, folder):
    with on_terminal("check", "wrong.yaml", **variables) as (_, texts):
        assert "\x1b" not in everything(texts)


@POSIX
def test_a_long_check_shows_its_progress_on_a_terminal_and_can_be_interrupted(tmp_path):
    spec = tmp_path / "large.yaml"
    spec.write_text(
        "network: {inputs: 500, layers: [{units: 500, activation: tanh}, {units: 300, activation: tanh}, "
        "{units: 10}], loss: mse}\nparameters: {init: xavier, seed: 1}\n"
        "data: {synthetic: normal, samples: 100, seed: 1}\n"
    )
    with on_terminal("check", "--differences", "literal", str(spec)) as (process, texts):
        assert any("large.yaml" in text and "%" in text for text in texts)
        process.send_signal(signal.SIGINT)
        text = everything(texts)
        assert ended(process) == 130
    assert "interrupted" in text
    assert "Traceback" not in text


def test_progress_waits_for_a_second(monkeypatch):
    assert progress_of(Terminal(), [0.2, 0.9, 1.0], monkeypatch) == ""
    assert "net.yaml" in progress_of(Terminal(), [0.2, 1.1], monkeypatch)


def test_progress_shows_a_file_name_as_it_is(monkeypatch):
    assert "[red]net.yaml" in progress_of(Terminal(), [2.0, 3.0], monkeypatch, "[red]net.yaml")


def test_progress_is_ascii_on_a_plain_terminal(monkeypatch):
    assert not progress_of(Terminal(), [2.0, 3.0], monkeypatch).isascii()
    monkeypatch.setenv("LC_ALL", "C")
    text = progress_of(Terminal(), [2.0, 3.0], monkeypatch)
    assert "net.yaml" in text
    assert text.isascii()


def test_progress_never_reaches_its_end_early_and_never_falls(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(progress, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = []
    with progress.Progress("net.yaml") as bar:
        for expected in (10, 10, 50):  # more work appears whenever all seems done
            bar.expect(expected)
            for _ in range(expected // 2):
                bar.advance(2)
                shown.append(bar._bar.tasks[0].percentage if bar._bar else 0.0)
    assert max(shown) < 99.5
    assert shown == sorted(shown)


def test_progress_is_for_terminals_only(monkeypatch):
    assert progress_of(io.StringIO(), [5.0, 9.0], monkeypatch) == ""
