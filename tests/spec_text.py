"""Write the text of a spec, and read it or catch its errors."""

from __future__ import annotations

import io
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.spec.file import read_spec

NETWORK = "network: {inputs: 2, layers: [{units: 1}], loss: mse}\n"
DATA = "data: {synthetic: normal}\n"


def written(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    Path("net.yaml").write_bytes(data)
    return "net.yaml"


def refused(text: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_spec(written(text))
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    return caught.value


def places(error: InputError) -> list[tuple[int, int, str]]:
    """Return line, column and message of every complaint."""
    return [(c.position.line, c.position.column, c.message) for c in error.complaints]


def only(text: str | bytes) -> Complaint:
    (complaint,) = refused(text).complaints
    return complaint


def stdin(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def unreadable(name: str) -> str:
    with pytest.raises(InputError) as caught:
        read_spec(name)
    return str(caught.value)
