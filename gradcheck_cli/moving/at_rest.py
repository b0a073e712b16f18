"""The forward pass of a network, and the losses after values of the network are perturbed.

This module handles every kind of perturbation: complex numbers, wider floats, coupled samples, and
conventions for elements on a kink. The module `short_moves` handles the most frequent kind, short steps
through dense layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.moving.affine_end import AffineEnd
from gradcheck_cli.moving.freed_memory import keep_freed_memory
from gradcheck_cli.moving.kinks import NONE_CHOSEN, Convention, Kinks, find_kinks
from gradcheck_cli.moving.tips import past_tip
from gradcheck_cli.network.arithmetic import FLOAT64, NUDGED, Arithmetic
from gradcheck_cli.network.graph import INPUT, heard, run
from gradcheck_cli.network.loss_rounding import loss_and_rounding
from gradcheck_cli.network.network import Activity, Network, sample_losses
from gradcheck_cli.network.rounding import errors_from
from gradcheck_cli.network.step import Arrays, Inputs, SeparatelyRounded
from gradcheck_cli.numerical.objective import ALONE, Moved, Spread
from gradcheck_cli.types import EPS, Array

BLOCK_BYTES = 2**22
"""The size in bytes of a block of short perturbations, chosen to fit the cache.

Sizes from 1 to 8 MiB are about as fast.
"""

LONG_BLOCK_BYTES = 2**20
"""The size in bytes of a block of other perturbations, which need more temporary arrays.

Blocks of 4 MiB take twice as long.
"""

PART_BLOCK_BYTES = 2**21
"""The size in bytes of a block of perturbations that are evaluated by parts.

A block has room for the largest part of each perturbation; most parts are far smaller.
"""


NEAR = 2.0**-8
"""The longest step that counts as short, as a multiple of the element's `unit`."""

Pick = Callable[[Array], Array]
"""A function that selects, from an array of all samples, the samples that each perturbation needs."""

Evaluate = Callable[[Sequence[Array]], Array]
"""A function from a node's inputs to its output, with perturbed parameters."""

_NO_NODES: Mapping[int, Evaluate] = {}


class AtRest:
    """A network at fixed parameters and data, which can be evaluated with perturbations.

    values: x and the output of every step, each (N, *features), for N samples; computed if not given.
    losses: the loss of every sample, (N,).
    spread: the way to distribute batches of perturbations.
    block: the size of the largest temporary array of a batch, in bytes.
    arithmetic: the arithmetic of the gradients. Its precision decides which elements count as on a kink.
    roundings_if_added, roundings_if_moved: caches of the outputs' rounding errors, by the index of the value
        that a change is added to, or that is computed from a perturbed parameter.
    roundings_near: a cache of the losses' rounding errors after short steps in a value, by its index.
    convention: the side on which elements on a kink stay under every perturbation. With None, no element on
        a kink is held on a side.
    holds: whether every element that is not on a kink keeps its smooth piece under every perturbation. The
        losses then have the same slopes, but long steps cross no kink. If not, crossings are reported.
    """

    def __init__(
        self,
        network: Network,
        parameters: Arrays,
        x: Array,
        target: Array,
        arithmetic: Arithmetic = FLOAT64,
        convention: Convention | None = None,
        values: tuple[Array, ...] | None = None,
        holds: bool = False,
    ) -> None:
        keep_freed_memory()
        self.network = network
        self.graph = network.graph
        self.parameters = parameters
        self.target = target
        self.arithmetic = arithmetic
        self.convention = convention
        self.holds = holds
        self.x = x
        self.spread: Spread = ALONE
        self._own_errors: dict[int, Array] = {}
        self._last_rounding: tuple[Array, Array] | None = None
        self.roundings_if_added: dict[int, Array] = {}
        self.roundings_if_moved: dict[int, Array] = {}
        self.roundings_near: dict[int, Array] = {}
        self.block = BLOCK_BYTES
        self.values: tuple[Array, ...] = run(network.graph, parameters, x) if values is None else values
        self.losses: Array = sample_losses(network, self.output, target)

    @property
    def output(self) -> Array:
        return self.values[-1]

    @cached_property
    def memories(self) -> tuple[dict[Any, Any], ...]:
        """For each value, what has been computed from it for all perturbations (`Resting.once`)."""
        return tuple({} for _ in self.values)

    @cached_property
    def affine_end(self) -> AffineEnd:
        return AffineEnd(self.graph, self.own, self.values)

    @cached_property
    def activity(self) -> Activity:
        """The values of the forward pass through a chain, layer by layer."""
        return Activity(self.network, self.values)

    @cached_property
    def own(self) -> tuple[dict[str, Array], ...]:
        """The parameters of each node, under the names that the node's step uses."""
        return tuple(node.own(self.parameters) for node in self.graph.nodes)

    @cached_property
    def kinks(self) -> Kinks:
        """The elements of the network's values that are on a kink, to within rounding."""
        return find_kinks(self.network, self.parameters, self.values, self.target, self.arithmetic)

    @property
    def _closest(self) -> bool:
        """Whether to notice the perturbations that an activation hides, since it is flat below its kink."""
        return self._ulp < 1.0 or self.convention is not None

    @cached_property
    def _ulp(self) -> float:
        """The machine epsilon of x's type, relative to float64's."""
        return float(np.finfo(self.x.dtype).eps) / EPS

    @cached_property
    def heard(self) -> tuple[Array, ...]:
        """For each value, a mask of the elements of a sample that can affect the network's output."""
        return heard(self.graph, self.parameters)

    @cached_property
    def pieces(self) -> dict[int, Array]:
        """For each node that has kinks, the smooth piece on which each unperturbed input lies."""
        return {
            i: node.step.pieces(self.values[node.inputs[0]])
            for i, node in enumerate(self.graph.nodes)
            if node.step.has_pieces
        }

    @cached_property
    def loss_pieces(self) -> Array | None:
        pieces = self.network.loss.pieces
        return pieces(self.output, self.target) if pieces else None

    # --- upwards from a value ----------------------------------------------------------------------------

    def above(
        self, at: int, moved: Array, samples: Any, output_rounding: Array, itself: bool = True
    ) -> Moved:
        """Return the losses after replacing the value with index `at` by `moved`.

        moved: the perturbed value, (…, *features), for losses of shape (…).
        samples, output_rounding: as in `fed`.
        itself: whether single elements of value `at` were perturbed. If so, an activation that reads it
            knows which ones. A later step does not, since a saturated softmax may round a change off.
        """
        first = next((i for i in self.graph.readers[at] if self.graph.nodes[i].step.is_activation), -1)
        return self.fed({at: moved}, samples, output_rounding, self.graph.gates(at), first if itself else -1)

    def fed(
        self,
        moved: Mapping[int, Array],
        samples: Any,
        output_rounding: Array,
        gates: Collection[int] = (),
        individually: int = -1,
        again: Mapping[int, Evaluate] = _NO_NODES,
    ) -> Moved:
        """Return the losses after replacing several values of the network.

        Only the steps that depend on these values are evaluated again.

        moved: the perturbed values by index, each (…, *features), for losses of shape (…). If a later step
            couples the N samples, each value must be a whole batch, (…, N, *features).
        samples: the index of the sample in each row of a perturbed value, to look up unperturbed values.
        output_rounding: the rounding error of the network's outputs, (N, *outputs), in units of machine
            epsilon.
        gates: the nodes that hide the perturbation if their outputs do not change.
        individually: the node whose inputs were perturbed one by one; −1 if there is none.
        again: a function for each node that uses a perturbed parameter, to evaluate the node.
        """
        fresh, nodes = dict(moved), self.graph.nodes
        at, value = next(iter(moved.items()))
        rows = value.shape[: value.ndim - len(self.graph.value_features[at])]
        crossed = np.zeros(rows, dtype=bool)
        silent = np.full(rows, not any(self.heard[at].any() for at in moved))

        def pick(array: Array) -> Array:
            picked: Array = array[samples]
            return picked

        for i in self.graph.above(*moved):
            inputs = [fresh[k] if k in fresh else pick(self.values[k]) for k in nodes[i].inputs]
            if nodes[i].step.has_pieces:
                if self._closest and nodes[i].step.flat_below and i in gates:
                    silent |= self._swallowed(i, inputs[0], pick, i == individually, len(rows))
                fresh[i + 1], changed = self.activate(i, inputs[0], pick)
                crossed |= _any(changed, len(rows))
            else:
                fresh[i + 1] = again[i](inputs) if i in again else nodes[i].step.forward(self.own[i], *inputs)
            for k in nodes[i].inputs:
                if self.graph.readers[k][-1] == i:
                    fresh.pop(k, None)  # reusing memory is faster
        return self.ended(fresh[len(self.values) - 1], samples, output_rounding, crossed, silent)

    def ended(
        self, output: Array, samples: Any, output_rounding: Array, crossed: Array, silent: Array
    ) -> Moved:
        """Return the losses for perturbed outputs of the network.

        output: the perturbed outputs, (…, *outputs), for losses of shape (…).
        samples, output_rounding: as in `fed`.
        crossed: a mask of the perturbations that crossed a kink, (…).
        silent: a mask of the perturbations that change nothing, (…).
        """
        losses, rounding, lost = self._losses(output, samples, output_rounding)
        if lost is not None:
            crossed |= _any(lost, crossed.ndim)
        c = self.network.coefficient
        rounding = np.where(silent, 0.0, abs(c) * self._ulp * rounding)
        return Moved(c * losses, rounding, crossed)

    def _swallowed(self, i: int, y: Array, pick: Pick, itself: bool, rows: int) -> Array:
        """Return a mask of the rows in which node i hides the perturbation.

        A node such as relu hides a perturbation if its inputs y stay off, that is, on the flat side of the
        kink.

        itself: whether the inputs themselves were perturbed one by one. If so, only the perturbed input has
            to be off; otherwise, every input has to be off.
        rows: the number of axes of y that count rows.
        """
        stays = y <= 0
        if self.holds:
            stays = stays | ~pick(self.kinks.of_nodes[i].mask)
        off = stays & ~pick(self.pieces[i])
        if self.convention is not None:
            kept = pick(self.kinks.of_nodes[i].mask)
            off = np.where(kept, pick(self._shares[i][-1]) == 0.0, off)
        if itself:
            off = off | (y == pick(self.values[self.graph.nodes[i].inputs[0]]))
        return np.asarray(off.reshape(*y.shape[:rows], -1).all(axis=-1))

    def activate(self, i: int, y: Array, pick: Pick) -> tuple[Array, Array]:
        """Return the output of node i for the inputs y, and a mask of the inputs that have crossed a kink.

        An element on a kink stays on the side that the convention chooses.
        """
        step = self.graph.nodes[i].step
        pieces = step.pieces(y)
        changed = pieces != pick(self.pieces[i])
        if self.holds and changed.any():
            changed = changed & pick(self.kinks.of_nodes[i].mask)
            pieces = np.where(changed, pieces, pick(self.pieces[i]))
        elif not self.holds and (self.convention is None or not self.kinks.of_nodes[i].mask.any()):
            return step.forward(self.own[i], y), changed
        kink = self.kinks.of_nodes[i]
        if self.convention is None:
            return step.branch(self.own[i], y, pieces), changed
        kept, output = pick(kink.mask), np.zeros(1, dtype=y.dtype)
        for side, share in zip(kink.pieces, self._shares[i], strict=True):
            if share.any():
                branch = step.branch(self.own[i], y, np.where(kept, pick(side), pieces))
                output = output + pick(share) * branch
        return output, changed & ~kept

    @cached_property
    def _shares(self) -> dict[int, Array]:
        """For each node that has kinks, the weights of the pieces that meet at each element."""
        assert self.convention is not None
        right, tie, chosen = self.convention.right, self.convention.tie, self.convention.pieces
        return {
            i: kink.shares(right if kink.alike else tie, chosen.get(i, NONE_CHOSEN))
            for i, kink in self.kinks.of_nodes.items()
        }

    def _losses(self, a: Array, samples: Any, output_rounding: Array) -> tuple[Array, Array, Array | None]:
        loss, target = self.network.loss, self.target[samples]
        losses, rounding = self._rounded(a, target, samples, output_rounding)
        if self.loss_pieces is None or loss.pieces is None or loss.branch is None:
            return losses, rounding, None
        pieces = loss.pieces(a, target)
        changed, past_tip = pieces != self.loss_pieces[samples], self.past_tip(a, samples)
        kept = self.kinks.of_loss[samples]
        if self.holds and loss.per_output:  # the pieces of others may tell how long a vector is
            changed = changed & kept
            pieces = np.where(changed, pieces, self.loss_pieces[samples])
        elif self.convention is None or not self.kinks.of_loss.any():
            return losses, rounding, changed | past_tip
        if self.convention is not None:
            pieces = np.where(kept, self._sides_of_loss[samples], pieces)
            changed = changed & ~kept
        return loss.branch(a, target, pieces), rounding, changed | past_tip

    @cached_property
    def past_tip(self) -> Callable[[Array, Any], Array | bool]:
        """`Tip.reached`, or a function that returns False if the loss has no tip."""
        held = self.kinks.tips if self.network.loss.tip and self.convention else None
        return past_tip(self.network.loss.tip, self.output, self.target, held)

    @cached_property
    def _sides_of_loss(self) -> Array:
        """The side of the loss for each output on a kink, under the convention."""
        assert self.convention is not None
        return self.kinks.sides_of_loss(self.network, self.convention.loss, self.convention.of_loss)

    def _rounded(self, a: Array, target: Array, samples: Any, output_rounding: Array) -> tuple[Array, Array]:
        """Return the losses and their rounding errors.

        For outputs that have hardly changed, these are the rounding errors at rest.
        """
        loss = self.network.loss
        if not np.abs(a - self.output[samples]).max(initial=0.0) <= NEAR:
            return loss_and_rounding(loss, a, target, output_rounding[samples])
        losses = loss.value(a, target)
        at_rest = self.loss_rounding(output_rounding)
        return losses, np.maximum(at_rest[samples], np.abs(np.real(losses)))

    def loss_rounding(self, output_rounding: Array) -> Array:
        """Return the rounding error of the unperturbed losses, (N,), in units of machine epsilon.

        The coefficient is left out. The last result is kept, since all batches of a movable need the same.
        """
        if self._last_rounding is None or self._last_rounding[0] is not output_rounding:
            _, at_rest = loss_and_rounding(self.network.loss, self.output, self.target, output_rounding)
            self._last_rounding = output_rounding, at_rest
        return self._last_rounding[1]

    def output_rounding(self, at: int, rounding: Array) -> Array:
        """Return the rounding error that the rounding error of one value causes in the outputs.

        The result has the shape (N, *outputs), for N samples, and is in units of machine epsilon.

        rounding: the rounding error of value `at`, in units of machine epsilon.
        """
        return self.output_rounding_of({at: rounding})

    def output_rounding_of(self, rounding: Mapping[int, Array]) -> Array:
        """Return the rounding error that the rounding errors of some values cause in the outputs.

        The result has the shape (N, *outputs), for N samples, and is in units of machine epsilon.

        rounding: the rounding errors of the values, in units of machine epsilon, by the value's index.
        """
        start = {at: NUDGED.eps * each for at, each in rounding.items()}
        return errors_from(self.graph, self.values, start, self._error)[-1] / NUDGED.eps

    @cached_property
    def nudged_errors(self) -> tuple[Array, ...]:
        """Bounds on the rounding errors of all unperturbed values for an exact x, in `NUDGED` arithmetic."""
        exact = np.broadcast_to(0.0, self.values[INPUT].shape)
        return errors_from(self.graph, self.values, {INPUT: exact}, self._error)

    def _error(self, i: int, inputs: Inputs, errors: Inputs) -> Array:
        """Return a bound on the error of the output of node i, given the errors of its inputs."""
        step, at_rest = self.graph.nodes[i].step, (self.own[i], inputs, self.values[i + 1])
        if isinstance(step, SeparatelyRounded):
            return step.carried(*at_rest, errors, NUDGED) + self.error_if_moved(i)
        return step.error(*at_rest, errors, NUDGED)

    def error_if_moved(self, i: int) -> Array:
        """Return node i's `Step.error_if_moved` in `NUDGED` arithmetic, which takes long and is cached."""
        if i not in self._own_errors:
            node = self.graph.nodes[i]
            at_rest = self.own[i], tuple(self.values[k] for k in node.inputs), self.values[i + 1]
            self._own_errors[i] = node.step.error_if_moved(*at_rest, NUDGED)
        return self._own_errors[i]


def _any(changed: Array, rows: int) -> Array:
    """Return a mask of the rows, the first `rows` axes, in which any element has changed."""
    return np.asarray(changed.reshape(*changed.shape[:rows], -1).any(axis=-1))
