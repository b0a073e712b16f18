"""Rows that the tables lack, written only as CONTRIBUTING describes."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.diagnose.families import DERIVATIVE
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.table import MISTAKES, ORDER
from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.functions import row_sums, sigmoid, softmax, softplus
from gradcheck_cli.network.initialisers import INITIALISERS, Initialiser
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.schemes import SCHEMES, Scheme
from gradcheck_cli.types import Array


def _log_softmax(z: Array) -> Array:
    shifted = z - z.real.max(axis=-1, keepdims=True)
    return shifted - np.log(row_sums(np.exp(shifted)))[..., None]


def _log_softmax_jacobian(z: Array) -> Array:
    return np.eye(z.shape[-1], dtype=z.dtype) - softmax(z)[..., None, :]


def _row_normalised(z: Array) -> Array:
    """Return each number divided by 1 + Σ z² over its row. Unlike in softmax, results may be negative."""
    return z / (1.0 + row_sums(z * z))[..., None]


def _row_normalised_jacobian(z: Array) -> Array:
    size = (1.0 + row_sums(z * z))[..., None, None]
    return np.eye(z.shape[-1], dtype=z.dtype) / size - 2.0 * z[..., :, None] * z[..., None, :] / size**2


def _mish_derivative(z: Array) -> Array:
    tanh = np.tanh(softplus(z))
    return tanh + z * (1.0 - tanh * tanh) * sigmoid(z)


def _pieces_of_relu6(z: Array) -> Array:
    return (z.real > 0).astype(np.int8) + (z.real >= 6)


def _branch_of_relu6(z: Array, piece: Array) -> Array:
    return np.where(piece == 1, z, 6.0 * (piece == 2)).astype(z.dtype)


def _relu6(z: Array) -> Array:
    return _branch_of_relu6(z, _pieces_of_relu6(z))


def _relu6_derivative(z: Array) -> Array:
    return ((z > 0) & (z < 6)).astype(z.dtype)


def _brier_gradient(a: Array, target: Array) -> Array:
    p = softmax(a)
    off = 2.0 * (p - target)
    return p * (off - row_sums(off * p)[..., None])


_ACTIVATIONS = (
    Activation("log_softmax", _log_softmax, _log_softmax_jacobian, coupled=True, bounded=True),
    Activation("row_normalised", _row_normalised, _row_normalised_jacobian, coupled=True, bounded=True),
    Activation("mish", lambda z: z * np.tanh(softplus(z)), _mish_derivative, bounded=True),
    Activation("square", lambda z: z * z, lambda z: 2.0 * z),
    Activation("relu6", _relu6, _relu6_derivative, pieces=_pieces_of_relu6, branch=_branch_of_relu6),
)

_LOSSES = (
    Loss(
        "log_cosh",
        lambda a, y: row_sums(softplus(2.0 * (a - y)) - (a - y) - np.log(2.0)),
        lambda a, y: np.tanh(a - y),
    ),
    Loss("brier", lambda a, y: row_sums((softmax(a) - y) ** 2), _brier_gradient, per_output=False),
    Loss(
        "square of the sum",
        lambda a, y: row_sums(a - y) ** 2,
        lambda a, y: np.broadcast_to(2.0 * row_sums(a - y)[..., None], a.shape),
        per_output=False,
    ),
)

_SCHEMES = (
    Scheme(
        "seven-point",
        offsets=(-3, -2, -1, 1, 2, 3),
        weights=(-1 / 60, 9 / 60, -45 / 60, 45 / 60, -9 / 60, 1 / 60),
        order=6,
        step=2.0**-8,
    ),
    Scheme("two forward", offsets=(0, 1, 2), weights=(-3 / 2, 2, -1 / 2), order=2, step=2.0**-17),
    Scheme("two backward", offsets=(-2, -1, 0), weights=(1 / 2, -2, 3 / 2), order=2, step=2.0**-17),
)

_INITIALISERS = (
    Initialiser("lecun", lambda rng, shape, fan_in, _: rng.normal(size=shape) / np.sqrt(fan_in)),
)


def _cubed(site: Site, _: float) -> Array | None:
    activation = site.layer.activation
    return None if activation.coupled else site.dL_da * activation.derivative(site.y) ** 3


NEW_MISTAKE = Mistake(
    "activation derivative cubed",
    DERIVATIVE,
    "in {where} the derivative of {activation} is cubed",
    "δ = ∂L/∂a · φ'(z)³",
    "δ = ∂L/∂a · {phi}",
    "∂a/∂z",
    code="delta = dL_da * (a * (1 - a)) ** 3",
    shown_by="slopes other than 0 and 1",
    part=Part.ACTIVATION,
    step=_cubed,
)

NEW_ACTIVATIONS = {row.name: row for row in _ACTIVATIONS}
NEW_LOSSES = {row.name: row for row in _LOSSES}
NEW_SCHEMES = {row.name: row for row in _SCHEMES}
NEW_INITIALISERS = {row.name: row for row in _INITIALISERS}


def add_rows(monkeypatch: Any) -> None:
    """Add the new rows to the tables for the duration of a test."""
    for table, rows in (
        (ACTIVATIONS, NEW_ACTIVATIONS),
        (LOSSES, NEW_LOSSES),
        (SCHEMES, NEW_SCHEMES),
        (INITIALISERS, NEW_INITIALISERS),
    ):
        for name, row in rows.items():
            monkeypatch.setitem(table, name, row)


def add_mistake(monkeypatch: Any) -> None:
    """Add the new mistake to the table of its part, as the last and least likely row, for one test."""
    monkeypatch.setitem(MISTAKES, NEW_MISTAKE.part, (*MISTAKES[NEW_MISTAKE.part], NEW_MISTAKE))
    monkeypatch.setitem(ORDER, id(NEW_MISTAKE), len(ORDER))
