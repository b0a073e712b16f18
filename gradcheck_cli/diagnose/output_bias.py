"""The gradient of the output layer's bias under one loss after another."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.network import Activity
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


class OutputBias:
    """Computes the gradient of the output layer's bias, without penalties.

    With batch normalisation, this is the gradient of β. Losses that differ only by a factor share one
    backward step if they follow each other.
    """

    def __init__(self) -> None:
        self._latest: tuple[str, Activity, Array] | None = None

    def gradient(self, of: Problem, activity: Activity) -> Array:
        """Return the gradient, (out,), of the loss of `of` after this forward pass."""
        loss = of.network.loss
        if self._latest is None or self._latest[0] != loss.name or self._latest[1] is not activity:
            dL_da = loss.gradient(activity.output, of.target)
            total = activity.network.output.activation.vjp(activity.y[-1], dL_da).sum(axis=0)
            self._latest = loss.name, activity, total
        return np.asarray(of.network.coefficient * self._latest[2])
