"""The file that a torch spec refers to."""

from __future__ import annotations

from typing import Any

from kinds.torch_code import HANDED


def build() -> Any:
    return HANDED[-1]()
