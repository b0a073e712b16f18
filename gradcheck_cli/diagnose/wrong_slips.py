"""Slips (small mistakes in a formula) in the gradients of the focal, dice, cosine and Poisson losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import Site
from gradcheck_cli.diagnose.wrong_losses import loss_row
from gradcheck_cli.network.functions import sigmoid, softplus
from gradcheck_cli.types import Array

Slip = Callable[..., Array]
"""A function that takes the output `a`, the target and the loss's options, and returns a wrong ∂ℓ/∂a.

All three arrays are (N, C), for N samples and C outputs; ℓ is the loss of a sample.
"""


def slip(loss: str, of: Slip) -> Step:
    """Return a step that computes a slip's gradient, times the network's coefficient.

    The step applies only to the loss with the name `loss`.
    """

    def step(site: Site, _: float) -> Array | None:
        own = site.problem.network.loss
        if own.name != loss:
            return None
        return site.c * of(site.a, site.target, **own.given)

    return step


Row = tuple[str, Slip, str, str, str]
"""A row of a table of slips: the kind of mistake, the slip, the sentence, the wrong formula and the code."""


def slip_rows(loss: str, rows: tuple[Row, ...], shown_by: str) -> tuple[Mistake, ...]:
    """Return one table row for each slip in the gradient of a loss."""
    return tuple(
        loss_row(kind, slip(loss, of), sentence, f"c · {{w}}{wrong}", code, shown_by)
        for kind, of, sentence, wrong, code in rows
    )


def total(array: Array) -> Array:
    """Return the sum over the last axis. The axis is kept, with length 1."""
    summed: Array = array.sum(axis=-1, keepdims=True)
    return summed


def unit(v: Array) -> Array:
    """Return v divided by its length along the last axis."""
    along: Array = v / np.sqrt(total(v * v))
    return along


# --- focal -------------------------------------------------------------------------------------------------


def _focal(
    weight: Callable[[Array, float], Array] = lambda t, alpha: alpha * t + (1.0 - alpha) * (1.0 - t),
    of_bce: float = 1.0,
    of_power: Callable[[Array, float], Array] = lambda missing, gamma: gamma * missing ** (gamma - 1.0),
) -> Slip:
    """Return a `Slip`: the gradient of the focal loss with a wrong weight or a wrong term.

    weight: a function of the target and alpha that returns the weight of each entry.
    of_bce: a factor on the term that differentiates the cross-entropy.
    of_power: the derivative of (1 − pₜ)^gamma, where pₜ is the probability of the target.
    """

    def gradient(a: Array, t: Array, alpha: float, gamma: float) -> Array:
        p, missing = sigmoid(a), sigmoid(a) * (1.0 - t) + sigmoid(-a) * t
        bce = t * softplus(-a) + (1.0 - t) * softplus(a)
        factor = of_power(missing, gamma) * (2.0 * t - 1.0) * p * (1.0 - p) * bce
        return weight(t, alpha) * (of_bce * missing**gamma * (p - t) - factor)

    return gradient


_FOCAL: tuple[Row, ...] = (
    (
        "focal: term missing",
        _focal(of_power=lambda missing, gamma: 0.0 * missing),
        "the focal loss's factor (1 − pₜ)^gamma is held constant",
        "w q^gamma (p − y)",
        "dL_da = weight * q**gamma * (p - y) / N",
    ),
    (
        "focal: term missing",
        _focal(of_bce=0.0),
        "the cross-entropy in the focal loss is held constant",
        "−w gamma q^(gamma − 1) p (1 − p) (2 y − 1) bce",
        "dL_da = -weight * slope * bce / N",
    ),
    (
        "focal: sign of a term",
        _focal(of_power=lambda missing, gamma: -gamma * missing ** (gamma - 1.0)),
        "the term from the focal loss's factor (1 − pₜ)^gamma is added instead of subtracted",
        "w (q^gamma (p − y) + gamma q^(gamma − 1) p (1 − p) (2 y − 1) bce)",
        "dL_da = weight * (q**gamma * (p - y) + slope * bce) / N",
    ),
    (
        "focal: derivative of the power",
        _focal(of_power=lambda missing, gamma: missing ** (gamma - 1.0)),
        "the derivative of (1 − pₜ)^gamma lacks gamma",
        "w (q^gamma (p − y) − q^(gamma − 1) p (1 − p) (2 y − 1) bce)",
        "dL_da = weight * (q**gamma * (p - y) - slope / gamma * bce) / N",
    ),
    (
        "focal: derivative of the power",
        _focal(of_power=lambda missing, gamma: gamma * missing**gamma),
        "the derivative of (1 − pₜ)^gamma has the exponent gamma, not gamma − 1",
        "w (q^gamma (p − y) − gamma q^gamma p (1 − p) (2 y − 1) bce)",
        "dL_da = weight * (q**gamma * (p - y) - slope * q * bce) / N",
    ),
    (
        "focal: alpha",
        _focal(weight=lambda t, alpha: np.ones_like(t)),
        "alpha is forgotten",
        "the gradient with w = 1",
        "dL_da = dL_da / weight",
    ),
    (
        "focal: alpha",
        _focal(weight=lambda t, alpha: np.full_like(t, alpha)),
        "alpha weights all targets, not only those that are 1",
        "the gradient with w = alpha",
        "dL_da = alpha * dL_da / weight",
    ),
)


# --- dice --------------------------------------------------------------------------------------------------


def _dice_sums(p: Array, t: Array, smooth: float) -> tuple[Array, Array]:
    return 2.0 * total(p * t) + smooth, total(p + t) + smooth


def _dice(of: Callable[[Array, Array, Array, Array], Array], keeps_smooth: bool = True) -> Slip:
    """Return a `Slip` that computes `of` from p = σ(a), the target, the overlap and the size.

    of: a function of these four arrays that returns a wrong ∂ℓ/∂a. The overlap is 2 Σ p y + smooth and the
        size is Σ p + Σ y + smooth, for the target y.
    keeps_smooth: whether the overlap and the size include `smooth`.
    """

    def gradient(a: Array, t: Array, smooth: float) -> Array:
        p = sigmoid(a)
        return of(p, t, *_dice_sums(p, t, smooth if keeps_smooth else 0.0))

    return gradient


def _dice_of_batch(a: Array, t: Array, smooth: float) -> Array:
    p = sigmoid(a)
    overlap, size = 2.0 * (p * t).sum() + smooth, (p + t).sum() + smooth
    return (overlap / size - 2.0 * t) / size * p * (1.0 - p)


_DICE: tuple[Row, ...] = (
    (
        "dice: term missing",
        _dice(lambda p, t, overlap, size: -2.0 * t / size * p * (1.0 - p)),
        "the denominator of the dice loss is held constant",
        "−2 y / D p (1 − p)",
        "dL_da = -2 * y / size * p * (1 - p) / N",
    ),
    (
        "dice: term missing",
        _dice(lambda p, t, overlap, size: overlap / size**2 * p * (1.0 - p)),
        "the numerator of the dice loss is held constant",
        "(2 Σ p y + smooth) / D² p (1 − p)",
        "dL_da = overlap / size**2 * p * (1 - p) / N",
    ),
    (
        "dice: factor 2",
        _dice(lambda p, t, overlap, size: (overlap / size - t) / size * p * (1.0 - p)),
        "the numerator's derivative lacks its factor 2",
        "((2 Σ p y + smooth) / D − y) / D p (1 − p)",
        "dL_da = (overlap / size - y) / size * p * (1 - p) / N",
    ),
    (
        "dice: smooth forgotten",
        _dice(lambda p, t, overlap, size: (overlap / size - 2.0 * t) / size * p * (1.0 - p), False),
        "the gradient of the dice loss lacks smooth",
        "(2 Σ p y / D − 2 y) / D p (1 − p), D = Σ p + Σ y",
        (
            "overlap, size = overlap - smooth, size - smooth\n"
            "dL_da = (overlap / size - 2 * y) / size * p * (1 - p) / N"
        ),
    ),
    (
        "dice: over the batch",
        _dice_of_batch,
        "the sums of the dice loss are over the whole batch, not over each sample",
        "((2 Σ p y + smooth) / D − 2 y) / D p (1 − p), sums over n too",
        (
            "overlap, size = 2 * (p * y).sum() + smooth, (p + y).sum() + smooth\n"
            "dL_da = (overlap / size - 2 * y) / size * p * (1 - p) / N"
        ),
    ),
    (
        "output activation missing",
        _dice(lambda p, t, overlap, size: (overlap / size - 2.0 * t) / size),
        "the gradient is ∂L/∂p: the derivative of p = σ(a) is missing",
        "((2 Σ p y + smooth) / D − 2 y) / D",
        "dL_da = (overlap / size - 2 * y) / size / N",
    ),
)


# --- cosine ------------------------------------------------------------------------------------------------


def _cosine(of: Callable[[Array, Array, Array], Array]) -> Slip:
    """Return a `Slip` that computes `of` from a / |a|, y / |y| and |a|.

    Here `a` is an output and `y` is its target; both are vectors.
    """

    def gradient(a: Array, t: Array, eps: float) -> Array:
        return of(unit(a), unit(t), np.sqrt(total(a * a)))

    return gradient


_COSINE: tuple[Row, ...] = (
    (
        "cosine: projection missing",
        _cosine(lambda u, v, norm: -v / norm),
        "the norm of a is held constant",
        "−y / |y| / |a|",
        "dL_da = -v / norm / N",
    ),
    (
        "cosine: not divided by the norm",
        _cosine(lambda u, v, norm: total(u * v) * u - v),
        "the gradient of the cosine is not divided by the norm of a",
        "(cos(a, y) a / |a| − y / |y|)",
        "dL_da = ((u * v).sum(axis=1, keepdims=True) * u - v) / N",
    ),
    (
        "cosine: sign of a term",
        _cosine(lambda u, v, norm: -(total(u * v) * u + v) / norm),
        "the term from the norm of a has the wrong sign",
        "−(cos(a, y) a / |a| + y / |y|) / |a|",
        "dL_da = -((u * v).sum(axis=1, keepdims=True) * u + v) / norm / N",
    ),
)


# --- Poisson -----------------------------------------------------------------------------------------------


_POISSON: tuple[Row, ...] = (
    (
        "poisson: gradient with respect to the rate",
        lambda a, t: 1.0 - t / np.exp(a),
        "the gradient is with respect to the rate e^a: the derivative of the exponential is missing",
        "(1 − y / e^a)",
        "dL_da = (1 - y / rate) / N",
    ),
    (
        "poisson: gradient with respect to the rate",
        lambda a, t: 1.0 - t / a,
        "the gradient treats the outputs as rates, not as logarithms of rates",
        "(1 − y / a)",
        "dL_da = (1 - y / a) / N",
    ),
)


SLIP_MISTAKES: tuple[Mistake, ...] = (
    *slip_rows("focal", _FOCAL, "outputs further from their targets, and targets of both 0 and 1"),
    *slip_rows("dice", _DICE, "outputs further from their targets"),
    *slip_rows("cosine", _COSINE, "outputs whose norms are not 1"),
    *slip_rows("poisson_nll", _POISSON, "outputs further from their targets"),
)
