"""The result of a diagnosis: the mistakes that exactly reproduce the author's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cause:
    """One mistake: what it is, where it was made, and the wrong formula next to the correct one.

    kind: a name that scripts can rely on; it is the same in every version.
    family: the group that this kind belongs to.
    where: the layers or the tensors in which the mistake was made; layers are listed from the output down. It
    is empty if the mistake has no specific place.
    sentence: what happened, in the author's terms.
    factor: the wrong factor of the chain rule, as `gradcheck explain` shows it; empty if no single factor is
    wrong.
    unknown, value: the name and the value of the number that the search solved for, such as a learning rate,
    a slope or a factor.
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
    """One possible explanation: one mistake, or two together, that reproduce the author's gradient.

    apart: the largest distance between the author's gradient and the gradient that the mistakes produce, as a
    share of the tensor's largest entry.
    """

    causes: tuple[Cause, ...]
    apart: float


@dataclass(frozen=True)
class Diagnosis:
    """The explanations of the author's gradient and any other facts that are known about it.

    answers: all answers that reproduce the gradient up to rounding, the most likely answer first.
    tried: how many wrong formulas were computed.
    observations: what else is known, one sentence per fact: where the mistake is, which ratios are constant.
    layers: the layers that contain the mistake, as far as known, from the output down.
    basis: what the diagnosis rests on: the spec's network ("network"), the arrays alone ("arrays"), the
    arrays of a layer that is checked without its network ("a layer"), the arrays of two sources that are
    compared ("two sources"), or the arrays alone because the spec does not describe the author's network
    ("another network").
    trials: what further runs of the code have shown, one sentence per fact. If there are such facts, they
    count as the explanation.
    places: where in the code the fault lies, as far as taps show, one sentence per place.
    """

    answers: tuple[Answer, ...]
    tried: int
    observations: tuple[str, ...]
    layers: tuple[str, ...]
    basis: Literal["network", "arrays", "a layer", "two sources", "another network"]
    trials: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
