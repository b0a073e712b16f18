"""Every test of the text of a spec runs in a folder of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Change to a folder in which every spec is called net.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
