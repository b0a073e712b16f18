"""The terminal tests always end, wherever they run, and report what they saw."""

from __future__ import annotations

import os
import signal

import processes
import pytest
from processes import POSIX, ended, everything, on_terminal, texts_on


@pytest.fixture
def deaf():
    """Ignore Ctrl-C here and in child processes, like a background job of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@POSIX
def test_a_command_in_the_background_can_be_interrupted(deaf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with on_terminal("init", typed=b"\x03", after="Source (") as (process, texts):
        assert everything(texts).endswith("\r\ninterrupted\r\n")
        assert ended(process) == 130


@POSIX
@pytest.mark.parametrize("typed", [b"", b"no such source\n"])
def test_an_endless_wait_fails_with_the_terminals_contents(typed, monkeypatch):
    import pty

    monkeypatch.setattr(processes, "PATIENCE", 1.0)
    ours, theirs = pty.openpty()
    os.write(theirs, b"Source (file, python): ")
    shown = r"it still runs after 1 s, and the terminal shows:\nSource \(file, python\): "
    try:
        with pytest.raises(pytest.fail.Exception, match=shown):
            everything(texts_on(ours, typed, after="Source ("))
    finally:
        os.close(ours)
        os.close(theirs)


@POSIX
def test_no_command_outlives_its_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with on_terminal("init", typed=b"") as (process, _):
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL
