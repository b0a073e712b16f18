"""What a diagnosis says: the mistakes that lead to the very gradient that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cause:
    """One mistake: what it is, where it was made, and the formula that is wrong beside the right one.

    kind: its name, the same in every version, for scripts;  family: what kinds of mistake it belongs to.
    where: the layers it was made in, from the output down, or the tensors; empty if none in particular.
    sentence: what happened, in the author's terms.
    factor: the factor of the chain rule (as `gradcheck explain` shows them) that is off; empty if none is.
    unknown, value: what had to be solved for, and what came out: a learning rate, a slope, a factor.
    """

    kind: str
    family: str
    where: tuple[str, ...]
    sentence: str
    wrong: str
    right: str
    factor: str = ""
    unknown: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Answer:
    """One mistake, or two at once, that together lead to the gradient that was found.

    apart: the largest distance between theirs and the one found, as a share of its tensor's largest entry.
    """

    causes: tuple[Cause, ...]
    apart: float


@dataclass(frozen=True)
class Diagnosis:
    """Every answer that reproduces the gradient to rounding, the likeliest first; none if nothing does.

    tried: how many wrong formulas were computed.
    observations: what is known all the same, a sentence each: where the fault lies, what is constant.
    layers: the layers that the fault lies in as far as that is known, the output's first.
    basis: whether the network was known, or nothing but arrays; or one is described, and it is another.
    trials: what running the code in other ways has shown, a sentence each: then that is why.
    """

    answers: tuple[Answer, ...]
    tried: int
    observations: tuple[str, ...]
    layers: tuple[str, ...]
    basis: Literal["network", "arrays", "another network"]
    trials: tuple[str, ...] = ()
