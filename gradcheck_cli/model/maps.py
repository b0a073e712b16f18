"""The maps of a layer as separate functions to difference: a → L, y → a, w → z, b → z."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.model.problem import Problem
from gradcheck_cli.network.network import sample_losses
from gradcheck_cli.numerical.objective import ALONE, Moved, Spread
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Map:
    """P numbers at `position`, each of which can be perturbed to observe its image.

    shape: the shape of the derivative, whose C order the P numbers follow.
    magnitude: the sizes of the images, (P,).
    observe(which, to): the image of each number when it is set to `to`.
    pieces(which, to): the smooth piece of the map that each number is on.
    """

    shape: tuple[int, ...]
    position: Array
    magnitude: Array
    observe: Callable[[Array, Array], Array]
    pieces: Callable[[Array, Array], Array] | None = None
    batch: int = 2**16
    rest: None = None
    spread: Spread = ALONE

    @property
    def unit(self) -> Array:
        return np.ones(len(self.position))

    def move(self, which: Array, to: Array) -> Moved:
        crossed = np.zeros(len(which), dtype=bool)
        with np.errstate(all="ignore"):
            if self.pieces is not None:
                differs = self.pieces(which, to) != self.pieces(which, self.position[which])
                crossed = differs.reshape(len(which), -1).any(axis=1)
            return Moved(self.observe(which, to), self.magnitude[which], crossed)


def loss_map(problem: Problem) -> Map:
    """Return the map a → L: each a_nj of the output, observed through its sample's loss. P = N × C."""
    network, a, target = problem.network, problem.objective.output, problem.target
    loss_pieces = network.loss.pieces

    def rows(which: Array, to: Array) -> tuple[Array, Array]:
        samples, units = np.divmod(which, a.shape[1])
        moved = a[samples].astype(to.dtype)
        moved[np.arange(len(which)), units] = to
        return moved, target[samples]

    return Map(
        a.shape,
        a.ravel(),
        np.repeat(np.abs(problem.objective.losses), a.shape[1]),
        lambda which, to: sample_losses(network, *rows(which, to)),
        loss_pieces and (lambda which, to: loss_pieces(*rows(which, to))),
        batch=_batch(a.shape[1]),
    )


def activation_map(problem: Problem, i: int) -> Map:
    """Return the map y → a of layer i: each a_nj as a function of its own y_nj, P = N × units.

    Without batch normalisation, y is z. For a coupled activation, it is each a_nk as a function of each y_nj,
    P = N × units², for as many samples as stay cheap.
    """
    layer, z = problem.network.layers[i], problem.objective.activity.y[i]
    activation, units = layer.activation, layer.units
    a = (*problem.objective.activity.inputs, problem.objective.output)[i + 1]
    if not activation.coupled:
        pieces = activation.pieces
        return Map(
            z.shape,
            z.ravel(),
            np.abs(a).ravel(),
            lambda _, to: activation.value(to),
            pieces and (lambda _, to: pieces(to)),
        )

    shape = (min(len(z), max(1, 2**22 // units**3)), units, units)

    def observe(which: Array, to: Array) -> Array:
        samples, i, j = np.unravel_index(which, shape)
        moved = z[samples].astype(to.dtype)
        moved[np.arange(len(which)), j] = to
        image: Array = activation.value(moved)[np.arange(len(which)), i]
        return image

    z_here, a_here = z[: shape[0]], np.abs(a[: shape[0]])
    position = np.broadcast_to(z_here[:, None, :], shape).ravel()
    magnitude = np.broadcast_to(a_here[:, :, None], shape).ravel()
    return Map(shape, position, magnitude, observe, batch=_batch(units))


def weight_map(problem: Problem, i: int) -> Map:
    """Return the map w → z: z_nj as a function of w_jk for each sample n and input k, P = N × inputs.

    The unit is j = k mod units.
    """
    layer, a_h = problem.network.layers[i], problem.objective.values[problem.network.places[i].input]
    w, b = problem.parameters[layer.weight], problem.parameters[layer.bias]
    inputs = np.tile(np.arange(layer.inputs), len(a_h))
    units = inputs % layer.units

    def observe(which: Array, to: Array) -> Array:
        rows = w[units[which]].astype(to.dtype)
        rows[np.arange(len(which)), inputs[which]] = to
        image: Array = (rows * a_h[which // layer.inputs]).sum(axis=1) + b[units[which]]
        return image

    terms = np.abs(a_h) @ np.abs(w.T) + np.abs(b)
    size = layer.inputs * terms[np.repeat(np.arange(len(a_h)), layer.inputs), units]
    return Map(a_h.shape, w[units, inputs], size, observe, batch=_batch(layer.inputs))


def bias_map(problem: Problem, i: int) -> Map:
    """Return the map b → z: z_nj as a function of b_j for every sample n. P = N × units."""
    layer, a_h = problem.network.layers[i], problem.objective.values[problem.network.places[i].input]
    product = a_h @ problem.parameters[layer.weight].T
    position = np.tile(problem.parameters[layer.bias], len(a_h))
    size = np.abs(problem.objective.values[problem.network.places[i].z]).ravel()
    return Map(product.shape, position, size, lambda which, to: product.ravel()[which] + to)


def _batch(width: int) -> int:
    """Return how many rows of `width` numbers fit in a block of 2 MiB."""
    return max(1, 2**18 // width)
