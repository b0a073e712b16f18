"""Points that the user's code refuses, such as points outside the domain of its function."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.types import Array


def is_refusal(error: Exception) -> bool:
    """Return whether the error may mean that the code refuses this particular point."""
    raised = error.__context__ if isinstance(error, InputError) else error  # the code's own error
    return isinstance(raised, _REFUSALS) and not isinstance(raised, _FAILURES)


_REFUSALS = (ValueError, ArithmeticError, AssertionError, RuntimeError, IndexError)
_FAILURES = (NotImplementedError, RecursionError, UnicodeError)


@dataclass
class Refusals:
    """Counts, for each parameter, how many points in a row the code refused while only it was changed."""

    in_a_row: dict[str, int] = field(default_factory=dict)

    def give_up(self, name: str) -> bool:
        """Return whether the code refused too many points in a row to be called again."""
        return self.in_a_row.get(name, 0) >= _GIVE_UP

    def add(self, name: str, losses: Array) -> None:
        """Count K further points, whose S loss terms are NaN or infinite where the code refused, (K, S)."""
        refused = not np.isfinite(losses).all(axis=1).any()
        self.in_a_row[name] = self.in_a_row.get(name, 0) + len(losses) if refused else 0


_GIVE_UP = 2000
"""After this many refused points in a row, the code is not called again for the same parameter."""
