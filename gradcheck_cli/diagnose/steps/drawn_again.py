"""A dropout mask that the backward pass draws again, so that it differs from the forward pass's mask.

The other mask is unknown, but it follows from the gradients of the dense layer below the dropout: the row of
a unit's weights is Σ mₙ eₙ a⁽ʰ⁾ₙ, where mₙ is 0 or 1 and eₙ is that unit's δ without a mask. `zeros_and_ones`
solves this for m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.diagnose.families import DROPOUT as DROPOUT_FAMILY
from gradcheck_cli.diagnose.site import penalty_on
from gradcheck_cli.diagnose.variant import Variant, Visit, share, variant
from gradcheck_cli.diagnose.zeros_and_ones import are_determined, solves, zeros_and_ones
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.dropout import Dropout, SampleDropout
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class _Below:
    """The dense layer below a dropout.

    visit: the visit to the dense layer. Its upstream gradient is δ without the mask, but with the mask's
        scale.
    """

    visit: Visit

    @property
    def found(self) -> Array | None:
        """The author's gradients of each unit's weights and bias, (units, K); None if any is unknown."""
        names, at = self.visit.node.names, self.visit.at
        if not set(names.values()) <= at.found.keys():
            return None
        columns = [at.found[name] - penalty_on(at.problem, name) for name in names.values()]
        return np.concatenate([each.reshape(len(each), -1) for each in columns], axis=1)

    def design(self, samples: int) -> Array:
        """Return what each mask element adds to a unit's gradients, (units, elements, K).

        samples: the number of samples that share a mask element.
        """
        step, visit = self.visit.step, self.visit
        rows, delta = step.rows(visit.inputs[0]), step.by_row(visit.upstream)
        assert rows is not None
        parts = [rows if own == "weight" else np.ones((len(rows), 1)) for own in visit.node.names]
        terms = delta.T[:, :, None] * np.concatenate(parts, axis=1)
        return terms.reshape(len(terms), samples, -1, terms.shape[-1]).sum(axis=1)

    def can_tell(self, mask: Array, shape: tuple[int, ...]) -> bool:
        """Return whether the gradients of every unit can be expected to determine its mask."""
        every = self.design(_sharing(mask, shape))
        return all(are_determined(terms[terms.any(axis=1)]) for terms in every if terms.any())


def _sharing(mask: Array, shape: tuple[int, ...]) -> int:
    """Return the number of samples that share a mask element."""
    return shape[0] if mask.ndim < len(shape) else 1


def _below(visit: Visit, upstream: Array) -> _Below | None:
    """Return the dense layer below a dropout, with activations in between; None if other steps are there."""
    at, i = visit.at, visit.feeder
    while i >= 0 and _is_elementwise(at.graph.nodes[i].step) and len(at.consumers(i + 1)) == 1:
        through = Visit(at, i, upstream, {})
        (upstream,), _ = through.right
        i = through.feeder
    if i < 0 or not isinstance(at.graph.nodes[i].step, Dense) or len(at.consumers(i + 1)) != 1:
        return None
    return _Below(Visit(at, i, upstream, {}))


def _is_elementwise(step: Step) -> bool:
    return step.is_activation and step.couples == "nothing"


def _mask(visit: Visit) -> Array:
    """Return the mask, (*features) or (N, *features), as 0 and 1."""
    step = visit.step
    mask: Array = step.mask if isinstance(step, Dropout) else visit.inputs[1]
    return (mask != 0).astype(float)


def _scale(visit: Visit) -> float:
    step = visit.step
    return step.scale if isinstance(step, SampleDropout) else float(step.mask.max())  # type: ignore[attr-defined]


def _drawn_again(visit: Visit) -> Array | None:
    """Return ∂L/∂x with the mask that the author's gradients show.

    If these gradients show the forward pass's own mask, the mask is drawn at random. Returns None if the
    gradients do not determine a mask.
    """
    mask, scale = _mask(visit), _scale(visit)
    below = _below(visit, scale * visit.upstream)
    solved = None if below is None else _solved(below, mask, visit.upstream.shape)
    if below is None or solved is None:
        return None
    if not (solved != mask).any():
        return scale * _random(mask) * visit.upstream if below.can_tell(mask, visit.upstream.shape) else None
    is_drawn = (solved > mask).any() and (solved < mask).any()  # a lost sample only drops more
    return scale * solved * visit.upstream if is_drawn else None


def _solved(below: _Below, mask: Array, shape: tuple[int, ...]) -> Array | None:
    """Return the mask that the gradients of the layer below show; None if they do not determine one."""
    found, units = below.found, shape[-1]
    if found is None or not np.isfinite(found).all():
        return None
    known, design = mask.reshape(-1, units).T.copy(), below.design(_sharing(mask, shape))
    for unit, (terms, target) in enumerate(zip(design, found, strict=True)):
        if solves(known[unit], terms, target):
            continue
        active = terms.any(axis=1)
        if not active.any():
            return None
        elements = zeros_and_ones(terms[active], target)
        if elements is None:
            return None
        known[unit, active] = elements
    return known.T.reshape(mask.shape)


def _random(mask: Array) -> Array:
    """Return another mask with as many elements of 1, in random order."""
    drawn: Array = np.random.default_rng(0).permutation(mask.ravel()).reshape(mask.shape)
    return drawn


_SAID_MORE_PRECISELY = frozenset({"dropout: mask inverted", "dropout: mask of another sample"})


def _row(step: type[Step]) -> Variant:
    row = variant(
        step,
        "dropout: mask drawn again",
        DROPOUT_FAMILY,
        share(_drawn_again),
        "dropout's backward pass draws another mask than the forward pass",
        "∂L/∂x = another mask ⊙ g",
        "∂L/∂x = mask ⊙ g",
        "again = 2 * np.array([1, 0, 0, 1, 1, 0])  # drawn again\ndL_dkept = again * y",
        "a mask that drops some values and keeps others",
    )
    return replace(row, wrong=replace(row.wrong, refined_by=_SAID_MORE_PRECISELY))


DRAWN_AGAIN: tuple[Variant, ...] = (_row(Dropout), _row(SampleDropout))
