"""Single steps, such as a → L, z → a and w → z, as functions to differentiate by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.network.activations import Activation
from gradcheck_cli.network.network import sample_losses
from gradcheck_cli.numerical.objective import ALONE, Moved, Spread
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Map:
    """A map to differentiate numerically, as P pairs of an input entry and an output entry that it affects.

    shape: the shape of the derivative, which has P entries; the pairs follow its C order.
    position: the unperturbed input entries, (P,).
    magnitude: the sizes of the outputs, (P,).
    observe: a function of `which` and `to`. It returns the outputs of the pairs `which`, each with its own
        input set to the entry of `to`.
    pieces: a function of `which` and `to`. It returns the smooth piece of the map on which each of these
        inputs lies.
    batch: the largest number of pairs to observe at once.
    """

    shape: tuple[int, ...]
    position: Array
    magnitude: Array
    observe: Callable[[Array, Array], Array]
    pieces: Callable[[Array, Array], Array] | None = None
    batch: int = 2**16
    rest: None = None
    exact: bool = True
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
    """Return the map a → L: the loss of sample n as a function of each of its outputs.

    The map has P = N × C pairs, for N samples of C outputs.
    """
    network, a, target = problem.network, problem.objective.output, problem.target
    loss_pieces, outputs = network.loss.pieces, a[0].size

    def rows(which: Array, to: Array) -> tuple[Array, Array]:
        samples, units = np.divmod(which, outputs)
        moved = a[samples].astype(to.dtype)
        moved.reshape(len(which), -1)[np.arange(len(which)), units] = to
        return moved, target[samples]

    return Map(
        a.shape,
        a.ravel(),
        np.repeat(np.abs(problem.objective.losses), outputs),
        lambda which, to: sample_losses(network, *rows(which, to)),
        loss_pieces and (lambda which, to: loss_pieces(*rows(which, to))),
        batch=_batch(outputs),
    )


def activation_map(problem: Problem, i: int, activation: Activation) -> Map:
    """Return the map z → a of an activation, node i: a_nj as a function of z_nj for each row n and unit j.

    If the activation couples the units of a row, as softmax does, the map is a_nk as a function of z_nj for
    all units k and j. It then has P = M × units² pairs, for the first M rows; M is chosen to keep the
    computation cheap.
    """
    (below,) = problem.network.graph.nodes[i].inputs
    z, a = problem.objective.values[below], problem.objective.values[i + 1]
    if not activation.coupled:
        pieces = activation.pieces
        return Map(
            z.shape,
            z.ravel(),
            np.abs(a).ravel(),
            lambda _, to: activation.value(to),
            pieces and (lambda _, to: pieces(to)),
        )
    units = z.shape[-1]
    z, a = z.reshape(-1, units), a.reshape(-1, units)
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
    """Return the map w → z of node i: z_rj as a function of w_jk, for each row r and input k.

    The map has P = R × K pairs, for R rows and K inputs. A row is a sample, a position of a sample or, for a
    convolution, the patch at one position. Only the unit j = k mod units is observed, since ∂z_rj/∂w_jk is
    the same for every j.
    """
    rows_of_inputs, w, b = _affine(problem, i)
    count, width = rows_of_inputs.shape
    inputs = np.tile(np.arange(width), count)
    units = inputs % len(w)

    def observe(which: Array, to: Array) -> Array:
        rows = w[units[which]].astype(to.dtype)
        rows[np.arange(len(which)), inputs[which]] = to
        image: Array = (rows * rows_of_inputs[which // width]).sum(axis=1) + b[units[which]]
        return image

    terms = np.abs(rows_of_inputs) @ np.abs(w.T) + np.abs(b)
    size = width * terms[np.repeat(np.arange(count), width), units]
    return Map(rows_of_inputs.shape, w[units, inputs], size, observe, batch=_batch(width))


def bias_map(problem: Problem, i: int) -> Map:
    """Return the map b → z of node i: z_rj as a function of b_j, for each row r and unit j."""
    rows, w, b = _affine(problem, i)
    product = rows @ w.T
    size = np.abs(product + b).ravel()
    return Map(product.shape, np.tile(b, len(rows)), size, lambda which, to: product.ravel()[which] + to)


def _affine(problem: Problem, i: int) -> tuple[Array, Array, Array]:
    """Return the input rows, (R, K), the weight, (units, K), and the bias, (units,), of node i.

    R is the number of rows, and K the number of inputs to each unit.
    """
    node = problem.network.graph.nodes[i]
    p, rows = node.own(problem.parameters), node.step.rows(problem.objective.values[node.inputs[0]])
    assert rows is not None, "the step has no rows"
    w = p["weight"].reshape(len(p["weight"]), -1)
    return rows, w, p.get("bias", np.zeros(len(w)))


def _batch(width: int) -> int:
    """Return how many rows of `width` float64 entries fit into a block of 2 MiB."""
    return max(1, 2**18 // width)
