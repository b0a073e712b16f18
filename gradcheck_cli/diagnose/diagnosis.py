"""A diagnosis: the mistakes that lead to exactly the gradient that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cause:
    """One mistake: what it is, where it was made, and the wrong formula with the right one.

    kind: its name, the same in every version, for scripts.  family: the group of kinds it belongs to.
    where: the layers it was made in, from the output down, or the tensors; empty for none in particular.
    sentence: what happened, in the author's terms.
    factor: the wrong factor of the chain rule, as `gradcheck explain` shows it; empty for none.
    unknown, value: what was solved for, and its value: a learning rate, a slope, a factor.
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
    """One mistake, or two at once, that lead to the gradient that was found.

    apart: the largest distance of their gradient from it, as a share of the tensor's largest entry.
    """

    causes: tuple[Cause, ...]
    apart: float


@dataclass(frozen=True)
class Diagnosis:
    """Every answer that reproduces the gradient to rounding, the likeliest first; none if nothing does.

    tried: how many wrong formulas were computed.
    observations: what else is known, a sentence each: where the mistake is, which ratios are constant.
    layers: the layers that the mistake is in, as far as known, the output's first.
    basis: what it rests on: the network, the arrays alone, or arrays because the network is another.
    trials: what running the code in other ways has shown, a sentence each; that is then the reason.
    """

    answers: tuple[Answer, ...]
    tried: int
    observations: tuple[str, ...]
    layers: tuple[str, ...]
    basis: Literal["network", "arrays", "another network"]
    trials: tuple[str, ...] = ()
