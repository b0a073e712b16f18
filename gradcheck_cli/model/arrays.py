"""Check that the arrays given by name are the arrays needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Protocol

from gradcheck_cli.errors import Complaint, InputError, Location, did_you_mean, shortened

_MOST_NAMED = 20
"""Number of unexpected arrays to name individually; the rest are only counted."""


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first `most` names, and how many more there are."""
    names = [shortened(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def shape_text(shape: tuple[int, ...]) -> str:
    """Format a shape, such as ``[2, 3]``."""
    return shortened("[" + ", ".join(map(str, shape)) + "]")


class Shaped(Protocol):
    """An array, or the header of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def as_vector(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return [n] for a column [n, 1] or a row [1, n]; any other shape unchanged."""
    return (prod(shape),) if len(shape) == 2 and 1 in shape else shape


def match_shapes(
    given: Mapping[str, Shaped],
    expected: Mapping[str, tuple[int, ...]],
    what: str,
    where: Location,
    if_missing: str | None = None,
    if_transposed: Mapping[str, str] | None = None,
) -> None:
    """Raise an `InputError` that names every missing, extra, misshapen and transposed array.

    if_missing: the help for a missing array.
    if_transposed: the help for transposed arrays, by name, where the usual one does not apply.
    """
    complaints = [
        Complaint(
            f"there is no {what} for '{shortened(name)}', of shape {shape_text(shape)}", where, if_missing
        )
        for name, shape in expected.items()
        if name not in given
    ]
    complaints += [
        _misshapen(name, given[name].shape, shape, what, where, (if_transposed or {}).get(name))
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    extra = [name for name in given if name not in expected]
    for name in extra[:_MOST_NAMED]:
        all_of_them = f"the parameters are {listed(expected)}" if expected else None
        help = did_you_mean(name, expected) or all_of_them
        complaints.append(Complaint(f"'{shortened(name)}' is not a parameter", where, help))
    if len(extra) > _MOST_NAMED:
        more = f"{len(extra) - _MOST_NAMED} more arrays are not parameters"
        complaints.append(Complaint(more, where))
    if complaints:
        raise InputError(*complaints)


def _misshapen(
    name: str,
    found: tuple[int, ...],
    needed: tuple[int, ...],
    what: str,
    where: Location,
    if_transposed: str | None,
) -> Complaint:
    message = f"the {what} for '{shortened(name)}' has shape {shape_text(found)}, not {shape_text(needed)}"
    if len(found) == 2 and found == needed[::-1]:
        convention = "weights are [out, in], as in PyTorch; " if name.endswith(".weight") else ""
        return Complaint(f"{message}: it is transposed", where, if_transposed or f"{convention}store its .T")
    if len(needed) == 1 and prod(found) == prod(needed):
        return Complaint(message, where, "a bias has one axis; store its .ravel()")
    return Complaint(message, where)
