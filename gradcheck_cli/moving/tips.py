"""Notice steps that reach the tip of a loss's cone, such as a distance of 0 in the contrastive loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.types import Array

_NEAR = 0.5
"""A step counts as reaching the tip if it moves an output by this share of the distance to the tip.

Two outputs may move together, and the loss curves strongly next to the tip.
"""


@dataclass(frozen=True)
class Tip:
    """The distance of each unperturbed vector of outputs to the tip of the loss's cone.

    distance: the distances, (N, …, 1), for outputs (N, …, C); infinite for vectors that are held at the tip.
    """

    output: Array
    distance: Array

    def reached(self, output: Array, samples: Any) -> Array:
        """Return a mask of the outputs that moved nearly as far as the tip, or further.

        To a step that is much longer than the distance, the loss looks flat next to the tip.

        output: the perturbed outputs, (…, C); the mask has the shape (…, 1).
        samples: the index of the unperturbed outputs.
        """
        by = np.abs(output - self.output[samples]).max(axis=-1, keepdims=True)
        return np.asarray(by >= _NEAR * self.distance[samples])


def past_tip(
    tip: Callable[[Array, Array], Array] | None, output: Array, target: Array, held: Array | None
) -> Callable[[Array, Any], Array | bool]:
    """Return `Tip.reached` for unperturbed outputs, or a function that returns False if the loss has no tip.

    held: a mask of the outputs that a convention holds at the tip, if there is a convention.
    """
    if tip is None:
        return lambda *_: False
    distance = tip(output, target)[..., None]
    return Tip(output, distance if held is None else np.where(held[..., :1], np.inf, distance)).reached
