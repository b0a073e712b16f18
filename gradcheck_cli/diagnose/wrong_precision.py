"""Finished gradients that have lost digits, because they were stored in a narrower type or rounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnose.families import PRECISION
from gradcheck_cli.diagnose.mistake import Spoilt, WrongTensor
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.types import EPS, Array

Fits = Callable[[Target, Array], Spoilt | None]

# --- in a narrower type ------------------------------------------------------------------------------------


def _precision(dtype: type[np.floating]) -> Fits:
    """Return a `Fits` function that recognises correct gradients that were rounded to `dtype`."""

    def fits(target: Target, right: Array) -> Spoilt | None:
        found = target.found
        with np.errstate(over="ignore"):
            exact = (found.astype(dtype).astype(np.float64) == found).all()
        off = np.abs(found - right).max()
        eps = float(np.finfo(dtype).eps)
        small = off <= _ROUNDINGS * eps * np.abs(right).max(initial=_CANCELLED * target.size)
        return Spoilt(found) if exact and small and eps > target.eps and found.any() else None

    return fits


_ROUNDINGS = 64.0
"""The largest rounding error of a sum, in units of the type's machine epsilon."""

_CANCELLED = 1e-3
"""The fraction of the size of its terms below which a sum counts as cancelled.

The rounding error of such a sum depends on the size of the terms, not on the sum.
"""


def _round(dtype: type[np.floating]) -> Callable[[Array], Array | None]:
    return lambda right: right.astype(dtype).astype(np.float64)


# --- rounded as if printed ---------------------------------------------------------------------------------


def _to_decimals(value: Array, decimals: int) -> tuple[Array, Array]:
    """Return the array rounded to this many decimals, and one unit in each entry's last decimal."""
    return np.round(value, decimals), np.full(value.shape, 10.0**-decimals)


def _to_digits(value: Array, digits: int) -> tuple[Array, Array]:
    """Return the array rounded to this many significant digits, and one unit in each entry's last digit."""
    exponent = np.floor(np.log10(np.abs(value), where=value != 0, out=np.zeros(value.shape)))
    unit = 10.0 ** (exponent - digits + 1)
    return np.round(value / unit) * unit, unit


_MOST_DECIMALS = 8
"""The largest number of decimals to try. With more decimals, rounding hardly changes a gradient."""


def _printed(to: Callable[[Array, int], tuple[Array, Array]], noun: str) -> Fits:
    """Return a `Fits` function that recognises correct gradients rounded to a few decimals or digits.

    to: a function that rounds a value to a number of decimals or digits.
    noun: "decimal" or "digit".
    """

    def fits(target: Target, right: Array) -> Spoilt | None:
        found = target.found
        eps = target.eps if target.eps < 1.0 else EPS
        if not found.any() or not np.isfinite(found).all():
            return None
        for count in range(1, _MOST_DECIMALS + 1):
            rounded, unit = to(found, count)
            if (np.abs(found - rounded) <= 4.0 * eps * np.abs(found)).all():
                near = (np.abs(found - right) <= _HALF * unit).all()
                return Spoilt(found, None, f"{count} {noun}{'s' if count > 1 else ''}") if near else None
        return None

    return fits


_HALF = 0.5 * (1.0 + 1e-6)
"""Half a unit in the last place, with a small margin for rounding."""


def _print(right: Array) -> Array | None:
    """Round the gradient to the number of decimals that leaves its largest entry with two digits.

    Returns None if this number of decimals is 0 or less, or above `_MOST_DECIMALS`.
    """
    largest = float(np.abs(right).max(initial=0.0))
    decimals = 1 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    return np.round(right, decimals) if 0 < decimals <= _MOST_DECIMALS else None


def _all_rounded_away(target: Target, right: Array) -> Spoilt | None:
    small = float(np.abs(right).max(initial=0.0)) <= _HALF * 0.1
    return Spoilt(target.found) if small and not target.found.any() else None


ROUNDED_AWAY = WrongTensor(
    "few decimals",
    PRECISION,
    "the gradient of {tensor} is so small that it rounds to 0",
    "0",
    "as computed",
    describes=True,
    fits=_all_rounded_away,
    plant=lambda right: None,
)
"""The mistake of rounding a small gradient to 0, named only if other gradients are rounded, too."""


PRECISION_MISTAKES: tuple[WrongTensor, ...] = (
    WrongTensor(
        "few decimals",
        PRECISION,
        "the gradient of {tensor} is rounded to {place}, as if it had been printed",
        "∂L/∂w to {place}",
        "as computed",
        code="dL_dw = np.round(delta.T @ a_h, 3)",
        describes=True,
        fits=_printed(_to_decimals, "decimal"),
        plant=_print,
    ),
    ROUNDED_AWAY,
    WrongTensor(
        "few digits",
        PRECISION,
        "the gradient of {tensor} is rounded to {place}, as if it had been printed",
        "∂L/∂w to {place}",
        "as computed",
        code='dL_dw = np.vectorize(lambda g: float(f"{g:.3g}"))(delta.T @ a_h)',
        describes=True,
        fits=_printed(_to_digits, "digit"),
        plant=lambda right: _to_digits(right, 3)[0] if right.any() else None,
    ),
    *(
        WrongTensor(
            name,
            PRECISION,
            f"the gradient of {{tensor}} is right only to the precision of {name}",
            f"in {name}",
            "as computed",
            code=f"dL_db_h = delta_h.astype(np.{name}).sum(axis=0).astype(np.float64)",
            describes=True,
            fits=_precision(dtype),
            plant=_round(dtype),
        )
        for name, dtype in (("float16", np.float16), ("float32", np.float32))
    ),
)
