"""Mistakes in the gradient of losses whose outputs hold several vectors side by side."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.wrong_losses import loss_row
from gradcheck_cli.types import Array


def _times(factor: float, vector: str, loss: str) -> Step:
    """Return a step that multiplies one vector's part of ∂L/∂a by a factor, for `loss` only."""

    def step(site: Site, _: float) -> Array | None:
        own = site.problem.network.loss
        if own.name != loss:
            return None
        parts = np.split(RIGHT[Part.LOSS](site), len(own.vectors), axis=-1)
        factors = [factor if each == vector else 1.0 for each in own.vectors]
        return np.concatenate([by * part for by, part in zip(factors, parts, strict=True)], axis=-1)

    return step


def _without(vector: str, loss: str, code: str = "") -> Mistake:
    return loss_row(
        "embedding without gradient",
        _times(0.0, vector, loss),
        f"the {vector} of {loss} has no gradient",
        f"c · {{dloss}}, with 0 for the {vector}",
        code,
        "samples whose loss is not 0",
    )


def _turned(vector: str, code: str = "") -> Mistake:
    return loss_row(
        "sign of the KL term",
        _times(-1.0, vector, "kl_gaussian"),
        f"the gradient of {vector} has the wrong sign",
        f"c · {{dloss}}, with −1 times the part of {vector}",
        code,
        f"a {vector} other than 0",
    )


VECTOR_MISTAKES: tuple[Mistake, ...] = (
    _without("anchor", "triplet", "dL_da = np.concatenate([0 * u, -u, v], axis=1) / N"),
    _without("positive", "triplet"),
    _without("negative", "triplet"),
    _without("first", "contrastive"),
    _without("second", "contrastive"),
    _turned("logvar", "dL_da = np.concatenate([mu, (1 - np.exp(logvar)) / 2], axis=1) / N"),
    _turned("mu"),
)
