"""A setting for the tests of this folder."""

from __future__ import annotations

import pytest
from quick_engines import everything_is_shared_out


@pytest.fixture
def long_work(monkeypatch):
    everything_is_shared_out(monkeypatch)
