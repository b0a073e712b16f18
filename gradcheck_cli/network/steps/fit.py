"""Refuse inputs and options that a step cannot take."""

from __future__ import annotations

from typing import Any

from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.windows import Windows
from gradcheck_cli.types import Shape

_FORMS = {1: "sequences [channels, length]", 2: "images [channels, height, width]"}
"""The name of an input in messages, by the number of its position axes."""


def refuse_other_positions(features: Shape, axes: int, what: str, key: str) -> None:
    """Raise an `UnfitError` unless samples are (channels, *positions) with `axes` position axes."""
    if len(features) != 1 + axes:
        form = _FORMS[axes]
        message = f"{what} needs {form}; it gets {list(features)}"
        raise UnfitError(message, key, f"give the network inputs: {form.split(' ', 1)[1]}")


def refuse_uneven_groups(groups: int, **counts: int) -> None:
    """Raise an `UnfitError` if any of several numbers of channels cannot be split into equal groups.

    groups: the number of groups.
    """
    for what, count in counts.items():
        if count % groups:
            message = f"{count} {what.replace('_', ' ')} cannot be split into {groups} groups"
            raise UnfitError(message, "groups")


def refuse_too_small(windows: Windows, features: Shape, what: str, key: str) -> None:
    """Raise an `UnfitError` if a window is larger than the input with its padding."""
    if min(windows.out(features[1:])) < 1:
        form = _FORMS[windows.axes].split()[0]
        raise UnfitError(f"{what} does not fit into {form} of {_size(features)}", key)


def refuse_wide_padding(windows: Windows) -> None:
    """Raise an `UnfitError` if a pooling window could contain nothing but padding."""
    if any(2 * p > k for p, k in zip(windows.padding, windows.kernel, strict=True)):
        raise UnfitError("the padding is more than half the window", "padding")


def axis_of(features: Shape, dim: int, key: str) -> int:
    """Return the axis that `dim` names, counted from 0.

    Raises an `UnfitError` if there is no such axis, or if it is the only one.
    """
    if len(features) == 1:
        raise UnfitError(
            f"samples of shape {list(features)} have a single axis, which cannot be dropped", key
        )
    return any_axis_of(features, dim)


def any_axis_of(features: Shape, dim: int) -> int:
    """Return the axis that `dim` names, counted from 0. Raises an `UnfitError` if there is no such axis."""
    axes = len(features)
    if not -axes <= dim < axes:
        message = f"dim is {dim}; samples of shape {list(features)} have the axes 0 to {axes - 1}"
        raise UnfitError(message, "dim", "do not count the batch axis")
    return dim % axes


def _size(features: Shape) -> str:
    return " × ".join(str(number) for number in features[1:])


def one_each(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a step with one position axis. Each number becomes a tuple of one number."""
    return {key: (value,) if type(value) is int else value for key, value in options.items()}
