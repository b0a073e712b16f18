"""Check the intermediate results that a forward pass marks with `tap`, in the same way as parameters.

An intermediate result h is perturbed by adding a shift to h on the line that computes h. The code computes
everything after that line from the sum. The derivative is thus ∂L/∂h with the parameters held fixed, which is
the gradient that backward has at that line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.load import Callee, a
from gradcheck_cli.code.returned import described, plain
from gradcheck_cli.code.tap import watching
from gradcheck_cli.types import Array

Run = Callable[[Mapping[str, Array]], Array]
"""A function that takes the parameters by name, runs the forward pass and returns the S loss terms, (S,)."""

_NUDGES = (2.0**-10, 3.0, -3.0)
"""How far to perturb a tensor to see what depends on it, relative to the size of its entries.

The large steps are for an activation that is flat near its input, such as a relu where every input is
negative.
"""

_SMALL_NUDGES = (-(2.0**-10), 2.0**-20, -(2.0**-20))
"""How far to perturb a tensor if the code fails at every one of `_NUDGES`."""

_DIFFERS = 1e-12
"""A value depends on the perturbed tensor if the value's relative change is larger than this."""


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

        Raises `InputError` if the name is not a string, if the code has passed a tap of this name before, or
        if the value is not an array of floats.
        """
        if not isinstance(name, str):
            message = f"passes {a(name)} as the name of a tap at {place}"
            raise self.code.complain(message, "pass the name first: h = tap('h', h)")
        if name in self.seen:
            message = f"calls tap('{name}', …) twice, at {self.seen[name].place} and at {place}"
            raise self.code.complain(message, f"give each its own name, such as f'{name}{{i}}'")
        array = plain(value)
        if array.dtype.kind != "f":
            traced = "Tracer" in type(value).__name__
            found = a(value) if traced else described(value)
            message = f"passes {found} to tap('{name}', …) at {place}; an array of floats is needed"
            raise self.code.complain(message, "taps do not work inside jax.jit" if traced else None)
        self.seen[name] = Tap(array.astype(np.float64), place)
        if name in self.held:
            return value + _in_kind(value, _finite(self.held[name]) - _finite(array))
        return value + _in_kind(value, self.shifts[name]) if name in self.shifts else value


def _finite(array: Array) -> Array:
    """Return the array with 0 in place of entries that no shift can change, such as the −inf of a mask."""
    return np.where(np.isfinite(array), array, 0.0)


def _in_kind(value: Any, shift: Array) -> Any:
    """Return the shift as a torch tensor for a torch tensor; numpy and jax can add a numpy array."""
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
        """The values of the taps, which are checked like parameters. An infinite entry counts as 0."""
        return {name: _finite(tap.value) for name, tap in self.at.items()}

    def split(self, point: Mapping[str, Array]) -> tuple[dict[str, Array], Watching]:
        """Return the parameters of a point, and a `Watching` that sets the taps to their values there."""
        shifts = {name: point[name] - value for name, value in self.values.items() if name in point}
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
        watch, after = search.moved(name, {}, _NUDGES[0])
        if name not in watch.seen:
            raise taps.code.complain(f"calls tap('{name}', …) at {tap.place} in some runs, but not in others")
        if np.array_equal(before, after):
            unused = f"what tap('{name}', …) returns at {tap.place}"
            help = f'use the returned array in the rest of the forward pass: {name} = tap("{name}", {name})'
            raise taps.code.complain(f"does not use {unused}: the loss does not depend on it", help)


# --- where the fault lies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """A search for the two taps between which a fault lies.

    run: the function that runs the forward pass.
    parameters: the parameters at which to run the forward pass, without the taps.
    """

    taps: Taps
    run: Run
    parameters: Mapping[str, Array]

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterator[str]:
        """Yield a sentence for each tensor whose gradient is wrong while the next taps above it are right.

        Backward computes the gradient of the tensor from the gradients of these taps, so the fault lies
        between the taps and the tensor.

        wrong: the names of the tensors whose gradients are wrong.
        right: the names of the tensors whose gradients agree.
        """
        decided = [tap for tap in self.taps.at if tap in wrong or tap in right]
        for name in (*self.parameters, *self.taps.at):
            if name in wrong and (ways := self._ways_up(name, decided)) and set(ways.taps) <= set(right):
                yield self._sentence(name, ways, decided) + self._used_rightly(name, right, decided)

    def _sentence(self, name: str, ways: _Ways, decided: Sequence[str]) -> str:
        at = f"∂L/∂{name}{self._line(name)} is wrong"
        if not ways.taps and not ways.past_taps:
            return f"{at}: it must be 0, since the loss does not depend on {name}"
        if not ways.taps:
            tap = "tap" if len(decided) == len(self.taps.at) else "tap that is known to be right"
            return f"{at}, and there is no {tap} between {name} and the loss: the fault lies in between"
        names = " and ".join(f"∂L/∂{each}{self._line(each)}" for each in ways.taps)
        past = f", or on a path without taps from {name} to the loss" if ways.past_taps else ""
        are = "is" if len(ways.taps) == 1 else "are"
        two = "them" if len(ways.taps) == 1 else f"{name} and these"
        return f"{names} {are} right, but {at}: the fault lies between {two}{past}"

    def _used_rightly(self, name: str, right: Collection[str], decided: Sequence[str]) -> str:
        """Return a clause if a tap's gradient is wrong but that of a tensor just below is right, else "".

        Backward may then have used the right gradient of the tap, and changed it in place before returning.
        """
        for other in (*self.parameters, *self.taps.at) if name in self.taps.at else ():
            if other in right and (ways := self._ways_up(other, decided)) and name in ways.taps:
                return f"; or backward changes ∂L/∂{name} in place after using it, since ∂L/∂{other} is right"
        return ""

    def _line(self, name: str) -> str:
        return f" ({self.taps.at[name].place})" if name in self.taps.at else ""

    def _ways_up(self, name: str, decided: Sequence[str]) -> _Ways | None:
        """Return how the loss depends on a tensor; None if the code fails at every perturbed value.

        All other taps are held fixed. The run without a perturbation holds them as well, so that two runs
        differ only by the perturbation.

        decided: the taps to consider. A tap that is neither right nor wrong helps to locate no mistake.
        """
        held = {tap: self.taps.at[tap].value for tap in decided if tap != name}
        at_rest = self.moved(name, held, 0.0)
        for nudges in (_NUDGES, _SMALL_NUDGES):
            runs = [run for by in nudges if (run := self._tried(name, held, by))]
            if runs:
                taps = [tap for tap in held if any(_tap_differs(tap, at_rest, run) for run in runs)]
                return _Ways(tuple(taps), any(_differ(at_rest[1], losses) for _, losses in runs))
        return None

    def _tried(self, name: str, held: Mapping[str, Array], by: float) -> tuple[Watching, Array] | None:
        """Return the result of `moved`; None if the code fails at the perturbed value."""
        with suppress(RefusedError), may_fail(Exception):
            watch, losses = self.moved(name, held, by)
            return (watch, losses) if np.isfinite(losses).all() else None
        return None

    def moved(self, name: str, held: Mapping[str, Array], by: float) -> tuple[Watching, Array]:
        """Perturb a tensor while some taps are held fixed. Return the watch and the S loss terms, (S,).

        held: the values at which taps are held, by name.
        by: how far to perturb the tensor, relative to the size of its entries.
        """
        point = {**self.parameters, **self.taps.values}
        rng = np.random.default_rng(0)
        size = np.maximum(np.abs(point[name]), np.sqrt(np.mean(np.square(point[name]))) or 1.0)
        point[name] = point[name] + by * size * rng.uniform(0.5, 1.0, size.shape)
        parameters, watch = self.taps.split(point)
        watch.held = held
        with watching(watch):
            return watch, self.run(parameters)


@dataclass(frozen=True)
class _Ways:
    """How the loss depends on a tensor.

    taps: the next taps above the tensor, which depend on it without another tap in between.
    past_taps: whether the loss also depends on the tensor without any tap in between.
    """

    taps: tuple[str, ...]
    past_taps: bool


def _tap_differs(tap: str, first: tuple[Watching, Array], second: tuple[Watching, Array]) -> bool:
    before, after = first[0].seen.get(tap), second[0].seen.get(tap)
    return before is not None and after is not None and _differ(before.value, after.value)


def _differ(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return True
    with np.errstate(invalid="ignore"):
        off = np.where(first == second, 0.0, np.abs(first - second))
    return not off.max(initial=0.0) <= _DIFFERS * np.abs(_finite(first)).max(initial=0.0)


def refuse_clashes(code: Callee, seen: Mapping[str, Tap], names: Collection[str]) -> None:
    """Raise `InputError` if a tap has the name of a parameter or an argument."""
    for name in (name for name in seen if name in names):
        message = f"calls tap('{name}', …) at {seen[name].place}, but a parameter has this name, too"
        raise code.complain(message, "give the tap another name")
