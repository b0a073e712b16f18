"""The file that a spec names for torch."""

from __future__ import annotations

from typing import Any

from kinds.torch_code import HANDED


def build() -> Any:
    return HANDED[-1]()
