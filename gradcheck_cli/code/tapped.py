"""Check the intermediate results that a forward pass marks with `tap`, in the same way as parameters.

To perturb an intermediate result h, a shift is added to it on the line that computes it, and the code
computes everything after that line from the sum. The derivative is thus ∂L/∂h with the parameters held fixed,
which is the gradient that backward has at that line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import plain
from gradcheck_cli.code.tap import watching
from gradcheck_cli.types import Array

Run = Callable[[Mapping[str, Array]], Array]
"""A function that takes the parameters by name, runs the forward pass and returns the S loss terms, (S,)."""

_NUDGE = 2.0**-10
"""The size of the perturbation that shows what depends on a tensor, relative to the tensor's entries."""

_DIFFERS = 1e-12
"""A value depends on the perturbed tensor if its relative change is larger than this."""


@dataclass(frozen=True)
class Tap:
    """An intermediate result of a forward pass: its value in float64 and its line, such as ``net.py:31``."""

    value: Array
    place: str


@dataclass
class Watching:
    """A watch that records the taps of one forward pass, and perturbs or fixes some of them.

    code: the function that runs, for messages.
    shifts: the shifts to add to the values of some taps, by name.
    held: the values to which other taps are fixed, by name.
    seen: all taps that the code has passed so far, in order.
    """

    code: Callee
    shifts: Mapping[str, Array] = field(default_factory=dict)
    held: Mapping[str, Array] = field(default_factory=dict)
    seen: dict[str, Tap] = field(default_factory=dict)

    def passed(self, name: str, value: Any, place: str) -> Any:
        """Record the tap, and return its value, which may be shifted or replaced.

        Raises `InputError` if the code has passed a tap of this name before, or if the value is not an array
        of floats.
        """
        if name in self.seen:
            message = f"passes tap '{name}' twice, at {self.seen[name].place} and at {place}"
            raise self.code.complain(message, f"give each its own name, such as f'{name}{{i}}'")
        array = plain(value)
        if array.dtype.kind != "f":
            found = a(value) if array.dtype.kind == "O" else f"numbers of type {array.dtype}"
            raise self.code.complain(f"taps {found} as '{name}' at {place}; an array of floats is needed")
        self.seen[name] = Tap(array.astype(np.float64), place)
        if name in self.held:
            return value + _in_kind(value, self.held[name] - array)
        return value + _in_kind(value, self.shifts[name]) if name in self.shifts else value


def _in_kind(value: Any, shift: Array) -> Any:
    """Return the shift as a torch tensor if the value is one; numpy and jax can add a numpy array."""
    return value.new_tensor(shift) if hasattr(value, "new_tensor") else shift


@dataclass(frozen=True)
class Taps:
    """The taps of a forward pass whose gradients the code returns.

    code: the function that contains the taps.
    at: each tap at the unperturbed parameters, by name and in order.
    """

    code: Callee
    at: Mapping[str, Tap]

    @property
    def values(self) -> Mapping[str, Array]:
        """The values of the taps, which are checked like parameters."""
        return {name: tap.value for name, tap in self.at.items()}

    def split(self, point: Mapping[str, Array]) -> tuple[dict[str, Array], Watching]:
        """Return the parameters of a point, and a `Watching` that sets the taps to their values there."""
        shifts = {name: point[name] - tap.value for name, tap in self.at.items() if name in point}
        moved = {name: shift for name, shift in shifts.items() if shift.any()}
        return {n: array for n, array in point.items() if n not in self.at}, Watching(self.code, moved)


def refuse_unused(
    taps: Taps, run: Run, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> None:
    """Raise `InputError` if the code does not use the value that a tap returned.

    Perturbing such a tap does not change the loss, although the code returns a nonzero gradient for it.
    """
    claimed = {name: tap for name, tap in taps.at.items() if np.any(gradients[name])}
    if not claimed:
        return
    search, before = Search(taps, run, parameters), run(parameters)
    for name, tap in claimed.items():
        if np.array_equal(before, search.moved(name, {})[1]):
            unused = f"what tap('{name}', …) returns at {tap.place}"
            help = f'write {name} = tap("{name}", {name})'
            raise taps.code.complain(f"does not use {unused}: the loss does not depend on it", help)


# --- where the fault lies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """A search for the two taps between which a fault lies.

    run: the function that runs the forward pass.
    parameters: the parameters at which to run it, without the taps.
    """

    taps: Taps
    run: Run
    parameters: Mapping[str, Array]

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterator[str]:
        """Yield a sentence for each tensor that is wrong although all taps computed from it are right.

        Backward passes through these taps on its way to the tensor. So the fault lies between the taps and
        the tensor.

        wrong: the names of the tensors whose gradients are wrong.
        right: the names of the tensors whose gradients agree.
        """
        reached = {name: self._reached(name) for name in (*self.parameters, *self.taps.at)}
        for name in reached:
            if name in wrong and reached[name] <= set(right):
                yield self._sentence(name, self._next(reached, name))

    def _sentence(self, name: str, above: Sequence[str]) -> str:
        at = f"∂L/∂{name}{self._line(name)} is wrong"
        if not above:
            return f"{at}, and there is no tap between {name} and the loss: the fault lies in between"
        names = " and ".join(f"∂L/∂{each}{self._line(each)}" for each in above)
        past = f", or on a path without taps from {name} to the loss" if self._passes(name, above) else ""
        are = "is" if len(above) == 1 else "are"
        two = "them" if len(above) == 1 else f"{name} and these"
        return f"{names} {are} right, but {at}: the fault lies between {two}{past}"

    def _line(self, name: str) -> str:
        return f" ({self.taps.at[name].place})" if name in self.taps.at else ""

    def _next(self, reached: Mapping[str, frozenset[str]], name: str) -> list[str]:
        """Return, in order, the names of the taps that depend on a tensor without another tap in between."""
        further = {each for via in reached[name] for each in reached[via]}
        return [tap for tap in self.taps.at if tap in reached[name] - further]

    def _reached(self, name: str) -> frozenset[str]:
        """Return the names of the taps whose values depend on a tensor."""
        watch, _ = self.moved(name, {})
        return frozenset(
            tap
            for tap, before in self.taps.at.items()
            if tap != name and tap in watch.seen and _differ(before.value, watch.seen[tap].value)
        )

    def _passes(self, name: str, above: Sequence[str]) -> bool:
        """Return whether the loss depends on a tensor even while the taps above it are held fixed."""
        held = {tap: self.taps.at[tap].value for tap in above}
        return _differ(self.run(self.parameters), self.moved(name, held)[1])

    def moved(self, name: str, held: Mapping[str, Array]) -> tuple[Watching, Array]:
        """Perturb a tensor while some taps are held fixed. Return the watch and the S loss terms, (S,).

        held: the values at which taps are held, by name.
        """
        point = {**self.parameters, **self.taps.values}
        rng = np.random.default_rng(0)
        size = np.maximum(np.abs(point[name]), np.sqrt(np.mean(np.square(point[name]))) or 1.0)
        point[name] = point[name] + _NUDGE * size * rng.uniform(0.5, 1.0, size.shape)
        parameters, watch = self.taps.split(point)
        watch.held = held
        with watching(watch):
            return watch, self.run(parameters)


def _differ(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return True
    return bool(np.abs(first - second).max(initial=0.0) > _DIFFERS * np.abs(first).max(initial=0.0))
