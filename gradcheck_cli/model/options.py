"""Rows of functions with options, for the tables of activations and losses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any


def bound(row: object, options: Mapping[str, Any], *functions: str) -> dict[str, Any]:
    """The fields of `row` that change when `options` are bound to those of `functions` that it has."""
    if not options:
        return {}
    changed = {name: partial(getattr(row, name), **options) for name in functions if getattr(row, name)}
    return {**changed, "options": {}}
