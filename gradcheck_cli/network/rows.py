"""Bind options to the functions in a row of the table of activations or losses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any


def bound(row: object, options: Mapping[str, Any], *functions: str) -> dict[str, Any]:
    """Bind options to functions of a row, and return the fields that change, by name.

    functions: the names of the fields that hold functions with options.
    """
    if not options:
        return {}
    changed = {name: partial(getattr(row, name), **options) for name in functions if getattr(row, name)}
    return {**changed, "options": {}}
