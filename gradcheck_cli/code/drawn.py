"""Random numbers for the losses that gradcheck makes: the weights c in L = Σ c · out, and directions v."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.types import Array, Shape

WEIGHTED_OUTPUTS = "Σ c · out"
"""The report's name for a loss that gradcheck makes from the outputs."""

SENTENCE = "L = Σ c · out, with c drawn at random."

PROJECTED = "g = ⟨∇L, v⟩"
"""The report's name for a gradient that is projected on a direction."""

SECOND = "The gradients shown are second derivatives: those of g = ⟨∇L, v⟩, with v drawn at random."


MOST_TERMS = 4096
"""The largest number of loss terms. Terms have less rounding noise than their sum, but take more memory."""


def drawn(shape: Shape, rng: np.random.Generator) -> Array:
    """Draw weights between ½ and 2, half of them negative.

    The weights lie on a grid that every floating-point type represents exactly.
    """
    grid, count = np.arange(32, 129) / 64.0, int(np.prod(shape))
    signs = 1.0 - 2.0 * (rng.permutation(count) % 2)
    return np.asarray(rng.choice(grid, shape) * signs.reshape(shape))


def groups(entries: int) -> Any:
    """Return the index of each entry's group.

    The entries of a group are added up, which leaves `MOST_TERMS` terms.

    entries: the number of entries.
    """
    return np.arange(entries) * MOST_TERMS // entries
