"""Mistakes in the gradients of losses for outputs that hold several vectors side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.wrong_losses import loss_row
from gradcheck_cli.diagnose.wrong_slips import Row, Slip, slip_rows, total, unit
from gradcheck_cli.types import Array


def _times(factor: float, vector: str, loss: str) -> Step:
    """Return a step that multiplies one vector's part of ∂L/∂a by a factor, for one loss only."""

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
        f"c · {{dloss}}, with the part for {vector} negated",
        code,
        f"a {vector} other than 0",
    )


# --- triplet -----------------------------------------------------------------------------------------------


def _triplet(
    over: Callable[[Array, float], Array],
    parts: Callable[[Array, Array], tuple[Array, Array, Array]],
    along: Callable[[Array], Array] = unit,
) -> Slip:
    """Return a `Slip`: a wrong gradient of the triplet loss.

    over: a function that returns which samples count. It takes a difference of distances,
        d(anchor, positive) − d(anchor, negative), and the margin.
    parts: a function that returns the gradients of the anchor, the positive and the negative. It takes
        the direction u from the positive to the anchor and the direction v from the negative to the anchor.
    along: a function that turns a difference of embeddings into a direction.
    """

    def gradient(a: Array, t: Array, margin: float, eps: float) -> Array:
        anchor, positive, negative = np.split(a, 3, axis=-1)
        u, v = anchor - positive + eps, anchor - negative + eps
        further = np.sqrt(total(u * u)) - np.sqrt(total(v * v))
        return over(further, margin) * np.concatenate(parts(along(u), along(v)), axis=-1)

    return gradient


def _too_near(further: Array, margin: float) -> Array:
    return (further + margin > 0).astype(float)


def _right_parts(u: Array, v: Array) -> tuple[Array, Array, Array]:
    return u - v, -u, v


_TRIPLET: tuple[Row, ...] = (
    (
        "triplet: margin",
        _triplet(lambda further, margin: np.ones_like(further), _right_parts),
        "every triplet has a gradient, even if its negative is far enough away",
        "(u − v, −u, v), for L = 0 too",
        (
            "over = np.ones_like(over)\n"
            "u, v = (anchor - positive) / d_u, (anchor - negative) / d_v\n"
            "dL_da = np.concatenate([u - v, -u, v], axis=1) / N"
        ),
    ),
    (
        "triplet: margin",
        _triplet(lambda further, margin: (further > 0).astype(float), _right_parts),
        "the margin is forgotten: only triplets whose negative is nearer than their positive have a gradient",
        "1[d(anchor, positive) > d(anchor, negative)] (u − v, −u, v)",
        "u, v = (d_u > d_v) * u, (d_u > d_v) * v\ndL_da = np.concatenate([u - v, -u, v], axis=1) / N",
    ),
    (
        "triplet: anchor gradient from one pair",
        _triplet(_too_near, lambda u, v: (u, -u, v)),
        "the anchor's gradient lacks the term from its distance to the negative",
        "1[L > 0] (u, −u, v)",
        "dL_da = np.concatenate([u, -u, v], axis=1) / N",
    ),
    (
        "triplet: anchor gradient from one pair",
        _triplet(_too_near, lambda u, v: (-v, -u, v)),
        "the anchor's gradient lacks the term from its distance to the positive",
        "1[L > 0] (−v, −u, v)",
        "dL_da = np.concatenate([-v, -u, v], axis=1) / N",
    ),
    (
        "triplet: distance not normalised",
        _triplet(_too_near, _right_parts, along=lambda v: v),
        "the difference between two embeddings is not divided by its norm",
        "1[L > 0] (negative − positive, positive − anchor, anchor − negative)",
        "u, v = u * d_u, v * d_v\ndL_da = np.concatenate([u - v, -u, v], axis=1) / N",
    ),
    (
        "triplet: distance not normalised",
        _triplet(_too_near, _right_parts, along=lambda v: 2.0 * v),
        "the gradient is that of squared distances",
        "1[L > 0] 2 (negative − positive, positive − anchor, anchor − negative)",
        "u, v = 2 * u * d_u, 2 * v * d_v\ndL_da = np.concatenate([u - v, -u, v], axis=1) / N",
    ),
    (
        "triplet: positive and negative swapped",
        _triplet(_too_near, lambda u, v: (u - v, v, -u)),
        "the gradients of the positive and the negative are swapped",
        "1[L > 0] (u − v, v, −u)",
        "dL_da = np.concatenate([u - v, v, -u], axis=1) / N",
    ),
)


# --- contrastive -------------------------------------------------------------------------------------------


def _contrastive(
    of_first: Callable[[Array, Array, Array, Array], Array], second: float = -1.0, clipped: bool = True
) -> Slip:
    """Return a `Slip`: a wrong gradient of the contrastive loss.

    of_first: a function that returns the gradient of the first embedding. It takes the difference d of the
        two embeddings, the direction of d, the labels (1 for pairs that are alike, else 0), and how far each
        pair is short of the margin.
    second: the factor that turns the gradient of the first embedding into the gradient of the second.
    clipped: whether pairs that are further apart than the margin have no gradient.
    """

    def gradient(a: Array, t: Array, margin: float) -> Array:
        first, other = np.split(a, 2, axis=-1)
        apart, alike = first - other, t[..., :1]
        short = margin - np.sqrt(total(apart * apart))
        g = of_first(apart, unit(apart), alike, np.maximum(short, 0.0) if clipped else short)
        return np.concatenate([g, second * g], axis=-1)

    return gradient


def _both_kinds(d: Array, e: Array, alike: Array, short: Array) -> Array:
    return 2.0 * alike * d - 2.0 * (1.0 - alike) * short * e


_SAVED = "dL_da = np.concatenate([pull, -pull], axis=1) / N"

_CONTRASTIVE: tuple[Row, ...] = (
    (
        "contrastive: margin",
        _contrastive(_both_kinds, clipped=False),
        "dissimilar pairs that are further apart than the margin have a gradient, too",
        "(g, −g), with margin − d in place of max(0, margin − d) in g",
        "short = margin - d\npull = 2 * y * apart - 2 * (1 - y) * short * apart / d\n" + _SAVED,
    ),
    (
        "contrastive: labels inverted",
        _contrastive(lambda d, e, alike, short: _both_kinds(d, e, 1.0 - alike, short)),
        "similar pairs are treated as dissimilar, and vice versa",
        "(g, −g), with 1 − y in place of y in g",
        "pull = 2 * (1 - y) * apart - 2 * y * short * apart / d\n" + _SAVED,
    ),
    (
        "contrastive: distance not normalised",
        _contrastive(lambda d, e, alike, short: 2.0 * alike * d - 2.0 * (1.0 - alike) * short * d),
        "the difference between dissimilar embeddings is not divided by its norm",
        "(g, −g), g = 2 y d − 2 (1 − y) max(0, margin − |d|) d",
        "pull = 2 * y * apart - 2 * (1 - y) * short * apart\n" + _SAVED,
    ),
    (
        "contrastive: sign of a term",
        _contrastive(lambda d, e, alike, short: 2.0 * alike * d + 2.0 * (1.0 - alike) * short * e),
        "the term for dissimilar pairs has the wrong sign, so it pulls them together",
        "(g, −g), g = 2 y d + 2 (1 − y) max(0, margin − |d|) d / |d|",
        "pull = 2 * y * apart + 2 * (1 - y) * short * apart / d\n" + _SAVED,
    ),
    (
        "contrastive: term missing",
        _contrastive(lambda d, e, alike, short: 2.0 * alike * d),
        "dissimilar pairs have no gradient",
        "(g, −g), g = 2 y d",
        "pull = 2 * y * apart\n" + _SAVED,
    ),
    (
        "contrastive: term missing",
        _contrastive(lambda d, e, alike, short: -2.0 * (1.0 - alike) * short * e),
        "similar pairs have no gradient",
        "(g, −g), g = −2 (1 − y) max(0, margin − |d|) d / |d|",
        "pull = -2 * (1 - y) * short * apart / d\n" + _SAVED,
    ),
    (
        "contrastive: sign of the second gradient",
        _contrastive(_both_kinds, second=1.0),
        "both embeddings get the same gradient, not opposite ones",
        "(g, g)",
        "dL_da = np.concatenate([pull, pull], axis=1) / N",
    ),
)


# --- Kullback-Leibler divergence of a Gaussian -------------------------------------------------------------


def _gaussian(of: Callable[[Array, Array], tuple[Array, Array]]) -> Slip:
    def gradient(a: Array, t: Array) -> Array:
        return np.concatenate(of(*np.split(a, 2, axis=-1)), axis=-1)

    return gradient


def _kl(parts: str) -> str:
    return f"dL_da = np.concatenate([{parts}], axis=1) / N"


_KL: tuple[Row, ...] = (
    (
        "kl: factor of a part",
        _gaussian(lambda mu, lv: (mu, np.expm1(lv))),
        "the gradient of logvar lacks the factor ½",
        "(mu, e^logvar − 1)",
        _kl("mu, np.exp(logvar) - 1"),
    ),
    (
        "kl: factor of a part",
        _gaussian(lambda mu, lv: (2.0 * mu, 0.5 * np.expm1(lv))),
        "the gradient of mu is too large by a factor of 2: the factor ½ of the loss is forgotten",
        "(2 mu, ½ (e^logvar − 1))",
        _kl("2 * mu, (np.exp(logvar) - 1) / 2"),
    ),
    (
        "kl: term missing",
        _gaussian(lambda mu, lv: (mu, 0.5 * np.exp(lv))),
        "the gradient of logvar lacks the term −1",
        "(mu, ½ e^logvar)",
        _kl("mu, np.exp(logvar) / 2"),
    ),
    (
        "kl: term missing",
        _gaussian(lambda mu, lv: (mu, np.full_like(lv, -0.5))),
        "the gradient of logvar lacks the term e^logvar",
        "(mu, −½)",
        _kl("mu, 0 * logvar - 0.5"),
    ),
    (
        "kl: gradient with respect to sigma",
        _gaussian(lambda mu, lv: (mu, np.exp(0.5 * lv) - np.exp(-0.5 * lv))),
        "the gradient is that of σ, not of logvar",
        "(mu, σ − 1/σ)",
        _kl("mu, np.exp(logvar / 2) - np.exp(-logvar / 2)"),
    ),
    (
        "kl: gradient with respect to sigma",
        _gaussian(lambda mu, lv: (mu, -0.5 * np.expm1(-lv))),
        "the gradient is that of the variance σ², not of logvar",
        "(mu, ½ (1 − 1/σ²))",
        _kl("mu, (1 - np.exp(-logvar)) / 2"),
    ),
)


VECTOR_MISTAKES: tuple[Mistake, ...] = (
    _without("anchor", "triplet", "dL_da = np.concatenate([0 * u, -u, v], axis=1) / N"),
    _without("positive", "triplet"),
    _without("negative", "triplet"),
    _without("first", "contrastive"),
    _without("second", "contrastive"),
    _turned("logvar", "dL_da = np.concatenate([mu, (1 - np.exp(logvar)) / 2], axis=1) / N"),
    _turned("mu"),
    *slip_rows("triplet", _TRIPLET, "triplets on both sides of the margin"),
    *slip_rows("contrastive", _CONTRASTIVE, "similar and dissimilar pairs, on both sides of the margin"),
    *slip_rows("kl_gaussian", _KL, "a mu and a logvar other than 0"),
)
