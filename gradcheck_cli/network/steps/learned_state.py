"""An initial state that is a parameter: h₀ = w for every sample. Each level and direction has a w of its own.

∂L/∂w = Σ over the samples of ∂L/∂h₀
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.network.formulas import Argument, Formulas
from gradcheck_cli.network.steps.added import AddParameter


@dataclass(frozen=True)
class LearnedState(AddParameter):
    """Add the initial state `weight` to an input of 0, so that every sample has this state."""

    formulas = Formulas(
        "h₀", "{x} + {weight}", (Argument("x", "1", "{g}"),), {"weight": Argument("w", "1", "Σₙ {g}ₙ")}
    )

    @property
    def label(self) -> str:
        return "initial state"
