"""The complaints about a spec, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_spec import DATA, NETWORK

from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.file import read_spec


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Return the complaints about a spec with the parts told(network={…}, …), as (value, message, help)."""
    monkeypatch.chdir(tmp_path)

    def told(**parts):
        # Each line has one value, so the rest of the line is the value.
        Path("net.yaml").write_text(json.dumps({"network": NETWORK, "data": DATA, **parts}, indent=1))
        with pytest.raises(InputError) as caught:
            read_spec("net.yaml")
        return [
            (c.position.text[c.position.column - 1 :].rstrip(","), c.message, c.help)
            for c in caught.value.complaints
        ]

    return told
