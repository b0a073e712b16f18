"""Hint at a reference if code fails because it is called in float64, which differences need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.code.returned import plain, type_of
from gradcheck_cli.errors import InputError

REFERENCE = (
    "gradcheck calls the code in float64, which differences need; if it takes only {}, name a function that "
    "computes the same forward pass in float64 as its reference"
)


@contextmanager
def hinting_at_a_reference(arguments: Iterable[Any]) -> Iterator[None]:
    """Add a hint to any error of the code in the context if the user gave it arrays in a narrower type.

    arguments: the arguments as the user has them.
    """
    try:
        yield
    except InputError as error:
        help = _help(arguments)
        told = [
            replace(each, help=each.help or help) if "raises" in each.message else each
            for each in error.complaints
        ]
        raise InputError(*told) from error.__cause__
    except Exception as error:
        if help := _help(arguments):
            error.add_note(f"{help[0].upper()}{help[1:]}.")
        raise


def _help(arguments: Iterable[Any]) -> str | None:
    floats = [each for each in arguments if hasattr(each, "dtype") and plain(each).dtype.kind == "f"]
    names = dict.fromkeys(type_of(each).name for each in floats if type_of(each) != np.float64)
    return REFERENCE.format(" or ".join(names)) if names else None
