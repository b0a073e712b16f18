"""A function at a point, with any mistake in its gradients, checked through the public interface only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from traceback import format_exception
from typing import Any, Protocol

import numpy as np

from gradcheck_cli import InputError, Report, WrongGradientError, check_gradients
from kinds.changes import Change
from kinds.function import Array, Arrays, Draw, Function, Make, chance


@dataclass(frozen=True)
class Mistake:
    """A slip in backward, or a later change to one tensor's gradient.

    slip: "" means none. tensor: "" means none.
    """

    name: str = ""
    slip: str = ""
    tensor: str = ""
    change: Change = np.positive

    def of(self, gradients: Arrays) -> Arrays:
        if not self.tensor:
            return gradients
        return {**gradients, self.tensor: self.change(np.asarray(gradients[self.tensor]))}


RIGHT = Mistake()


@dataclass(frozen=True)
class Result:
    """A verdict and its cost.

    verdict: agrees, wrong or unresolved; refused if the check gave no verdict; raised if it raised an error.
    calls: calls of the function.
    entries: the number of parameters.
    seconds: processor time.
    told: details of the verdict.
    """

    verdict: str
    calls: int
    entries: int
    seconds: float
    told: Callable[[], str]


class Subject(Protocol):
    """A function at a point."""

    @property
    def parameters(self) -> Arrays: ...

    def losses(self, parameters: Arrays) -> Array:
        """Return the losses in float64."""

    def gradients(self, mistake: Mistake) -> Arrays:
        """Return the gradients as the code computes them."""

    def exact(self) -> Arrays:
        """Return the right gradients, in float64."""

    def check(self, mistake: Mistake, fast: bool) -> Result: ...


def checkable(subject: Subject) -> bool:
    """Return whether the loss and the gradients are finite at this point, and the gradients are not all 0."""
    with np.errstate(all="ignore"):
        gradients = [np.asarray(g) for g in subject.gradients(RIGHT).values()]
        finite = all(np.isfinite(g).all() for g in (subject.losses(subject.parameters), *gradients))
    return finite and any(g.any() for g in gradients)


# --- a function of numpy arrays ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Python:
    """A function that computes in a fixed type and returns one loss, or one per sample."""

    function: Function
    dtype: type
    terms: bool

    @property
    def parameters(self) -> Arrays:
        return self.function.parameters

    def losses(self, parameters: Arrays) -> Array:
        return np.atleast_1d(self.function.forward(parameters, self.function.data)[0])

    def gradients(self, mistake: Mistake) -> Arrays:
        return self.evaluate(self.parameters, mistake, self.dtype)[1]

    def exact(self) -> Arrays:
        return self.evaluate(self.parameters, RIGHT, np.float64)[1]

    def check(self, mistake: Mistake, fast: bool) -> Result:
        return checked(lambda p: self.evaluate(p, mistake, self.dtype), self.parameters, fast)

    def evaluate(self, parameters: Arrays, mistake: Mistake, dtype: type) -> tuple[Any, Arrays]:
        p, d = ({name: v.astype(dtype) for name, v in of.items()} for of in (parameters, self.function.data))
        losses, saved = self.function.forward(p, d)
        gradients = self.function.backward(p, d, saved, mistake.slip)
        return losses if self.terms else losses.sum(), mistake.of(gradients)


def in_python(make: Make, dtype: type) -> Callable[[Draw], Python]:
    def drawn(rng: Draw) -> Python:
        while not checkable(subject := Python(make(rng), dtype, chance(rng, 0.5))):
            pass
        return subject

    return drawn


def checked(evaluate: Callable[[Arrays], Any], parameters: Arrays, fast: bool) -> Result:
    """Return the result of `check_gradients`."""
    calls = 0

    def loss_and_gradients(p: Arrays) -> Any:
        nonlocal calls
        calls += 1
        with np.errstate(all="ignore"):
            return evaluate(p)

    start = process_time()
    verdict, told = judged(
        lambda: check_gradients(loss_and_gradients, parameters, fast=fast or None, allow_undecided=True)
    )
    entries = sum(np.size(value) for value in parameters.values())
    return Result(verdict, calls, entries, process_time() - start, told)


def judged(check: Callable[[], Report]) -> tuple[str, Callable[[], str]]:
    """Return the verdict of a check with its details."""
    try:
        report = check()
    except WrongGradientError as error:
        return "wrong", error.__str__
    except InputError as error:
        return "refused", error.__str__
    except Exception as error:  # raised by the function at a perturbed point, or a defect
        return "raised", lambda error=error: "".join(format_exception(error))
    return str(report.verdict), lambda: "\n".join(map(str, report.worst(10)))
