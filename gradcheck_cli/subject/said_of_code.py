"""What the report says about the user's code, apart from the results of the check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.function import Function, Inputs
from gradcheck_cli.problem.unexercised import unexercised
from gradcheck_cli.subject.said import Said, describe, samples, unlike
from gradcheck_cli.types import Array


def said_of(function: Function, inputs: Inputs, checked: tuple[str, ...], terms: int) -> Said:
    """Return what the report says about a function.

    checked: the names of the tensors that are checked.
    terms: the number of the function's loss terms.
    """
    return Said(
        described=_describe(function, inputs),
        loss_name=f"{function.loss_name}{f', {terms} terms' if terms > 1 else ''}",
        loss=function.loss,
        unexercised=unexercised(replace(inputs.problem, checked=checked))
        if inputs.problem
        else tuple(_hiding(function.parameters)),
        unusual=(*function.remarks, *_other_loss(inputs, function.loss)),
        weighted=function.weighted,
    )


def _describe(function: Function, inputs: Inputs) -> str:
    if inputs.problem:
        return describe(inputs.problem)
    numbers = sum(array.size for array in function.parameters.values())
    tensors = len(function.parameters)
    of = f"{numbers:,} parameter{'s' if numbers != 1 else ''}"
    described = f"{tensors} tensor{'s' if tensors != 1 else ''} of {of}"
    return described if function.samples is None else f"{described}, {samples(function.samples)}"


_HIDES = {
    1.0: "a missing factor in backward would not show",
    0.0: "a missing term in backward would not show",
}
"""Maps a number to the mistake that no check can reveal if every entry of a parameter is that number."""


def _hiding(parameters: Mapping[str, Array]) -> Iterator[str]:
    """Yield a short note on tensors whose entries are all 1, and one on tensors whose entries are all 0.

    Such tensors can hide mistakes.
    """
    for value, what in _HIDES.items():
        names = [name for name, array in parameters.items() if array.size and (array == value).all()]
        if names:
            entries = " in every entry" if any(parameters[name].size > 1 for name in names) else ""
            yield f"{listed(names)} {'is' if len(names) == 1 else 'are'} {value:g}{entries}: {what}"


def _other_loss(inputs: Inputs, loss: float) -> tuple[str, ...]:
    """Return a note if the code's loss differs from that of the spec's network; otherwise, ()."""
    return (
        () if inputs.problem is None else unlike(inputs.problem, loss, "the code's loss", "network section")
    )
