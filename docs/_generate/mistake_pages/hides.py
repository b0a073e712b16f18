"""Situations that may hide a mistake: each changes the data or the parameters of an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from mistake_pages.edit import Edit
from mistake_pages.examples import EXAMPLES
from mistake_pages.program import Arrays, Program
from mistake_pages.shown import Shown, differ, run

Change = Callable[[Arrays, Mapping[str, np.ndarray]], Arrays]
"""A function that returns the changed arrays, from a program's arrays and everything it computes."""

Applies = Callable[[Program], bool]


@dataclass(frozen=True)
class Situation:
    """A situation: its condition in words, the change that creates it, and the examples it applies to."""

    words: str
    change: Change
    applies: Applies = lambda example: True


def _each(f: Callable[[np.ndarray], np.ndarray], *names: str) -> Change:
    """Return a change that applies a function to each of these arrays."""
    return lambda arrays, _: {name: f(arrays[name]) for name in names if name in arrays}


def _nearly_zero(arrays: Arrays, _: Mapping[str, np.ndarray]) -> Arrays:
    return {name: 1e-7 * arrays[name] for name in ("w", "w_h", "b", "b_h")}


def _counted(arrays: Arrays, _: Mapping[str, np.ndarray]) -> Arrays:
    """Return distinct tokens, as long as the table has enough of them."""
    table, x = arrays["table"], arrays["x"]
    return {"x": 1 + np.arange(x.size).reshape(x.shape) % (len(table) - 1)}


def _none_negative(arrays: Arrays, right: Mapping[str, np.ndarray]) -> Arrays:
    name = "beta" if "beta" in arrays else "b_h"
    return {name: arrays[name] + 0.1 - min(0.0, float(right.get("y_h", right["z_h"]).min()))}


def _one_output(arrays: Arrays, _: Mapping[str, np.ndarray]) -> Arrays:
    return {"y": arrays["y"][:, :1], "w": arrays["w"][:1], "b": arrays["b"][:1]}


def _one_hidden_unit(arrays: Arrays, _: Mapping[str, np.ndarray]) -> Arrays:
    rows = {name: arrays[name][:1] for name in ("w_h", "b_h", "gamma", "beta") if name in arrays}
    return {"w": arrays["w"][:, :1], **rows}


def _has_values(example: Program) -> bool:
    """Return whether each output has its own target, which may be any number."""
    return example.problem.network.loss.target == "values"


def _has(name: str) -> Applies:
    """Return a function that says whether an example has an array of this name."""
    return lambda example: name in example.arrays


def _is_dense(example: Program) -> bool:
    """Return whether an example has the weights and biases of dense layers."""
    return {"w", "w_h", "b", "b_h"} <= set(example.arrays)


def _has_upstream(example: Program) -> bool:
    """Return whether the y of an example is an upstream gradient."""
    return example.problem.network.loss.target == "upstream"


def _is_normalised(example: Program) -> bool:
    return "gamma" in example.arrays


def _is_scaled(example: Program) -> bool:
    return _has_upstream(example) and "gamma" in example.arrays


def _has_numbers(example: Program) -> bool:
    """Return whether the x of an example holds numbers rather than tokens."""
    return "table" not in example.arrays


def _is_square(example: Program) -> bool:
    return "w" in example.arrays and example.arrays["w"].shape[0] == example.arrays["w"].shape[1]


SITUATIONS: tuple[Situation, ...] = (
    Situation("the batch is a single sample", _each(lambda array: array[:1], "x", "y")),
    Situation("all samples are equal", _each(lambda array: np.repeat(array[:1], len(array), 0), "x", "y")),
    Situation("all inputs are positive", _each(lambda array: np.abs(array) + 0.1, "x"), _has_numbers),
    Situation("every upstream gradient is 1", _each(np.ones_like, "y"), _has_upstream),
    Situation("every upstream gradient and every gamma is 1", _each(np.ones_like, "y", "gamma"), _is_scaled),
    Situation("no token occurs twice in a sample", _counted, _has("table")),
    Situation("the slope is 1", _each(np.ones_like, "slope"), _has("slope")),
    Situation("all targets are 0", _each(np.zeros_like, "y"), _has_values),
    Situation(
        "no output differs from its target by more than 0.1",
        lambda arrays, right: {
            "y": right["a"] + 0.1 * np.cos(np.arange(right["a"].size)).reshape(right["a"].shape)
        },
        _has_values,
    ),
    Situation("all biases are 0", _each(np.zeros_like, "b", "b_h"), _has("b")),
    Situation("gamma is 1", _each(np.ones_like, "gamma"), _is_normalised),
    Situation("all weights are positive", _each(np.abs, "w", "w_h"), _has("w")),
    Situation(
        "the weight matrix of the output layer is symmetric",
        _each(lambda array: array + array.T, "w"),
        _is_square,
    ),
    Situation("all weights and biases are close to 0", _nearly_zero, _is_dense),
    Situation("no pre-activation of the hidden layer is negative", _none_negative, _is_dense),
    Situation("the network has one output", _one_output, _has_values),
    Situation("the network has one hidden unit", _one_hidden_unit, _is_dense),
)
"""The situations that are tried for every mistake."""


@dataclass(frozen=True)
class Visibility:
    """The situations that hide a mistake and those that do not, in words.

    networks: the examples in which the same code is right.
    """

    hidden: tuple[str, ...]
    visible: tuple[str, ...]
    networks: tuple[str, ...]


@cache
def visibility_of(shown: Shown) -> Visibility:
    """Run the right and the wrong program in every situation that applies to the example."""
    example = shown.example
    right = run(example, example.program, example.arrays)
    assert right is not None
    seen = {
        each.words: _is_visible(shown, {**example.arrays, **each.change(example.arrays, right)})
        for each in SITUATIONS
        if each.applies(example)
    }
    return Visibility(
        tuple(words for words, visible in seen.items() if visible is False),
        tuple(words for words, visible in seen.items() if visible),
        tuple(each.words for each in EXAMPLES if _is_right(Edit(each.program, shown.edit.code), each)),
    )


def _is_right(edit: Edit, example: Program) -> bool:
    """Return whether the edited program computes the right gradients of the example."""
    if not edit.fits:
        return False
    right, other = (run(example, program, example.arrays) for program in (edit.program, edit.result))
    return right is not None and other is not None and not differ(example, other, right)


def _is_visible(shown: Shown, arrays: Arrays) -> bool | None:
    """Return whether the two programs' gradients differ; None if a program does not fit these arrays."""
    example = shown.example
    right, wrong = (run(example, program, arrays) for program in (example.program, shown.edit.result))
    return None if right is None or wrong is None else differ(example, wrong, right)
