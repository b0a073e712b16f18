"""Compare the names and shapes of arrays with the required ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Protocol

from gradcheck_cli.errors import Complaint, InputError, Location, did_you_mean, shortened

_MOST_NAMED = 20
"""The number of unexpected names to check for misspellings of a parameter's name."""


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first `most` names as text, followed by the number of other names: ``a, b and 3 more``."""
    names = [shortened(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def shape_text(shape: tuple[int, ...]) -> str:
    """Format a shape as text, such as ``[2, 3]``."""
    return shortened("[" + ", ".join(map(str, shape)) + "]")


class Shaped(Protocol):
    """An object that has a shape, such as an array or the header of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def as_vector(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (n,) for a column (n, 1) or a row (1, n); any other shape is returned unchanged."""
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

    given: the arrays or headers by name.  expected: the shapes needed, by name.
    what: the word for an array in messages, such as "parameter".
    where: the place in the spec that the error points at.
    if_missing: the help for a missing array.
    if_transposed: by array name, the help for a transposed array to which the usual help does not apply.
    """
    complaints = [
        Complaint(
            f"there is no {what} for '{shortened(name)}', whose shape is {shape_text(shape)}",
            where,
            if_missing,
        )
        for name, shape in expected.items()
        if name not in given
    ]
    complaints += [
        _misshapen(name, given[name].shape, shape, what, where, (if_transposed or {}).get(name))
        for name, shape in expected.items()
        if name in given and given[name].shape != shape
    ]
    complaints += _extra([name for name in given if name not in expected], expected, where)
    if complaints:
        raise InputError(*complaints)


def _extra(names: Sequence[str], expected: Mapping[str, tuple[int, ...]], where: Location) -> list[Complaint]:
    """Return one complaint for each name that looks misspelt, and one for all other unexpected names."""
    guesses = {name: did_you_mean(name, expected) for name in names[:_MOST_NAMED]}
    misspelt = {name: guess for name, guess in guesses.items() if guess}
    complaints = [
        Complaint(f"'{shortened(name)}' is not a parameter", where, guess) for name, guess in misspelt.items()
    ]
    others = [f"'{shortened(name)}'" for name in names if name not in misspelt]
    if others:
        them, are = ("it", "is not a parameter") if len(others) == 1 else ("them", "are not parameters")
        known = f"; the parameters are {listed(expected)}" if expected else ""
        complaints.append(Complaint(f"{listed(others)} {are}", where, f"leave {them} out{known}"))
    return complaints


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
        return Complaint(
            f"{message}: it is transposed", where, if_transposed or f"{convention}use the array's .T"
        )
    if len(needed) == 1 and prod(found) == prod(needed):
        return Complaint(message, where, "a bias has one axis; use the array's .ravel()")
    if axes := _broadcast(found, needed):
        which = f"axis {axes[0]}" if len(axes) == 1 else f"axes {listed(map(str, axes))}"
        return Complaint(message, where, f"sum it over {which}, along which '{shortened(name)}' is broadcast")
    return Complaint(message, where)


def _broadcast(found: tuple[int, ...], needed: tuple[int, ...]) -> list[int]:
    """Return the axes along which an array of the needed shape would be broadcast to the found shape.

    The result is empty if the array cannot be broadcast to that shape.
    """
    aligned = (1,) * (len(found) - len(needed)) + needed
    fits = len(aligned) == len(found) and all(n in (1, m) for n, m in zip(aligned, found, strict=True))
    extra = len(found) - len(needed)
    return [i for i, m in enumerate(found) if i < extra or aligned[i] != m] if fits else []
