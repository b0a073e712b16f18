"""The result of a diagnosis: the mistakes that exactly reproduce the author's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cause:
    """One mistake: what it is, where it was made, and the wrong formula next to the correct one.

    kind: a name that scripts can rely on; it is the same in every version.
    family: the group that this kind belongs to.
    where: the layers or the tensors in which the mistake was made; empty if the mistake has no specific
        place. Layers are listed from the output down.
    sentence: a description of what happened, in the author's terms.
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
    """One possible explanation of the author's gradient: one mistake, or two mistakes together.

    apart: the largest distance between the author's gradient and the gradient that the mistakes produce, as a
        fraction of the tensor's largest entry. It is NaN if further runs of the code verified the mistake.
    """

    causes: tuple[Cause, ...]
    apart: float


@dataclass(frozen=True)
class Diagnosis:
    """The explanations of the author's gradient and any other facts that are known about it.

    answers: all answers that reproduce the gradient up to rounding. The most likely answer comes first.
    tried: the number of wrong formulas that were computed.
    observations: other known facts, one sentence each, such as where the mistake is or which ratios are
        constant.
    layers: the layers that are known to contain the mistake, from the output down.
    basis: the information that the diagnosis rests on. "network" stands for the spec's network, "further
        runs" for further evaluations of the code, and "arrays" for the arrays alone. "a layer" stands for the
        arrays of a layer that is checked without a network, and "two sources" for the arrays of two sources.
        "another network" stands for the arrays alone, if the spec does not describe the author's network.
    trials: facts that further runs of the code have shown, one sentence each. If there are any, they count as
        the explanation.
    places: sentences that say where in the code the fault lies, as far as its taps show (see `tap`).
    may_tap: whether the code may mark intermediate results with `tap`.
    """

    answers: tuple[Answer, ...]
    tried: int
    observations: tuple[str, ...]
    layers: tuple[str, ...]
    basis: Literal["network", "arrays", "a layer", "two sources", "further runs", "another network"]
    trials: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    may_tap: bool = False
