"""Rows that the tables lack, written as CONTRIBUTING describes and no more."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.functions import row_sums, sigmoid, softmax, softplus
from gradcheck_cli.network.losses import LOSSES, Loss
from gradcheck_cli.types import Array


def _log_softmax(z: Array) -> Array:
    shifted = z - z.real.max(axis=-1, keepdims=True)
    return shifted - np.log(row_sums(np.exp(shifted)))[..., None]


def _log_softmax_jacobian(z: Array) -> Array:
    return np.eye(z.shape[-1], dtype=z.dtype) - softmax(z)[..., None, :]


def _row_normalised(z: Array) -> Array:
    """Return shares of the row, which are neither positive nor bounded by 1."""
    return z / (1.0 + row_sums(z * z))[..., None]


def _row_normalised_jacobian(z: Array) -> Array:
    size = (1.0 + row_sums(z * z))[..., None, None]
    return np.eye(z.shape[-1], dtype=z.dtype) / size - 2.0 * z[..., :, None] * z[..., None, :] / size**2


def _mish_derivative(z: Array) -> Array:
    tanh = np.tanh(softplus(z))
    return tanh + z * (1.0 - tanh * tanh) * sigmoid(z)


def _brier_gradient(a: Array, target: Array) -> Array:
    p = softmax(a)
    off = 2.0 * (p - target)
    return p * (off - row_sums(off * p)[..., None])


_ACTIVATIONS = (
    Activation("log_softmax", _log_softmax, _log_softmax_jacobian, coupled=True, bounded=True),
    Activation("row_normalised", _row_normalised, _row_normalised_jacobian, coupled=True, bounded=True),
    Activation("mish", lambda z: z * np.tanh(softplus(z)), _mish_derivative, bounded=True),
    Activation("square", lambda z: z * z, lambda z: 2.0 * z),
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

NEW_ACTIVATIONS = {row.name: row for row in _ACTIVATIONS}
NEW_LOSSES = {row.name: row for row in _LOSSES}


def add_rows(monkeypatch: Any) -> None:
    """Add the new rows to the tables for the duration of a test."""
    for name, activation in NEW_ACTIVATIONS.items():
        monkeypatch.setitem(ACTIVATIONS, name, activation)
    for name, loss in NEW_LOSSES.items():
        monkeypatch.setitem(LOSSES, name, loss)
