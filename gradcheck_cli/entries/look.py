"""Classify entries by their current estimates as wrong, open or doubtful, and refine the estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.numerical.kinks import alternatives, with_sides_that_agree
from gradcheck_cli.numerical.reference import Estimates, Reference
from gradcheck_cli.types import Array

Masks = dict[str, Array]
"""Masks of entries, by the name of the tensor. Tensors without any marked entry are left out."""


@dataclass(frozen=True)
class Look:
    """The estimates of some tensors, and the comparison of each with its analytic gradient.

    among: for each tensor, a mask of the entries that the properties below may mark.
    """

    claim: Claim
    estimates: Estimates
    comparisons: Mapping[str, Comparison]
    among: Mapping[str, Array]

    def after(self, estimates: Estimates) -> Look:
        """Return a `Look` at newer estimates. Tensors with unchanged estimates keep their comparison."""
        newer = {
            name: self.claim.compare(name, estimate)
            for name, estimate in estimates.items()
            if estimate is not self.estimates[name]
        }
        return replace(self, estimates=estimates, comparisons={**self.comparisons, **newer})

    @property
    def wrong(self) -> Masks:
        """Masks of the wrong entries, by tensor."""
        return self._marked(lambda c: c.wrong)

    @property
    def doubtful(self) -> Masks:
        """Masks of the entries that are wrong by a small margin only."""
        return self._marked(lambda c: c.doubtful)

    @property
    def unresolved(self) -> Masks:
        """Masks of the entries that neither agree nor are wrong."""
        return self._marked(lambda c: c.unresolved)

    @property
    def open(self) -> Masks:
        """Masks of the entries that a closer look may decide."""
        return self._marked(lambda c: c.open)

    @property
    def still_open(self) -> Masks:
        """Masks of the entries that justify wider arithmetic."""
        return self._marked(lambda c: c.still_open)

    @property
    def worst_wrong(self) -> Masks:
        """Masks of the worst entry of each tensor, if it is wrong and its numerical value still imprecise."""
        return self._marked(lambda c: c.worst_wrong)

    def _marked(self, mask: Callable[[Comparison], Array]) -> Masks:
        every = ((name, mask(c)) for name, c in self.comparisons.items())
        masks = {name: marked & self.among[name] for name, marked in every if marked.any()}
        return {name: marked for name, marked in masks.items() if marked.any()}


def first_look(claim: Claim, estimates: Estimates, among: Mapping[str, Array] | None = None) -> Look:
    """Return a `Look` at the first estimates.

    among: for each tensor, a mask of the entries that may be marked; all entries by default.
    """
    comparisons = {name: claim.compare(name, estimate) for name, estimate in estimates.items()}
    return Look(claim, estimates, comparisons, among or dict.fromkeys(estimates, np.array(True)))


def union(*of: Masks) -> Masks:
    """Return, for each tensor, the union of its masks: every entry that is marked in at least one of them."""
    masks: Masks = {}
    for each in of:
        for name, mask in each.items():
            masks[name] = masks[name] | mask if name in masks else mask
    return masks


def settled(look: Look, reference: Reference, worst: bool = True) -> Look:
    """Evaluate further steps for the entries that need them, and return a `Look` at the new estimates.

    Entries that agree need no more steps; entries that are wrong by far need one more step. All other entries
    get the whole ladder of steps, and entries that are still open after that get wider arithmetic. If the
    whole ladder clears the worst entry of a tensor, the first steps were misleading, and all wrong entries of
    the tensor get the ladder.

    worst: whether the worst entry of each tensor gets the whole ladder of steps, too.
    """
    if wrong := look.wrong:
        look = look.after(reference.confirm(look.estimates, wrong))
    worst_wrong = look.worst_wrong if worst else {}
    if undecided := union(look.open, look.doubtful, worst_wrong):
        look = look.after(reference.refine(look.estimates, undecided))
    if as_bad := _as_bad(look, worst_wrong):
        look = look.after(reference.refine(look.estimates, as_bad))
    return sharpened(look, reference)


def sharpened(look: Look, reference: Reference) -> Look:
    """Evaluate the entries that are still open in wider arithmetic, and return a `Look` at new estimates."""
    still_open = look.still_open
    return look.after(reference.sharpen(look.estimates, still_open)) if still_open else look


def _as_bad(look: Look, worst: Masks) -> Masks:
    """Return masks of the wrong entries in those tensors whose worst entry turned out not to be wrong."""
    wrong = look.wrong
    return {
        name: wrong[name] for name, mask in worst.items() if name in wrong and not (mask & wrong[name]).any()
    }


def on_kinks(look: Look, reference: Reference) -> tuple[Look, Masks]:
    """Set entries on kinks to the best conventional value. Return a new `Look` and masks of these entries."""
    if unresolved := look.unresolved:
        look = look.after(with_sides_that_agree(reference, look.estimates, unresolved))
    # If kinks are known, their sides are cheap. If not, only entries that may be on a kink justify a search.
    beyond = look.wrong if reference.objective.tells_kinks else look.doubtful
    undecided = union(look.unresolved, beyond)

    def estimated(by: Reference) -> Estimates:
        first = first_look(look.claim, by.estimate(list(undecided)), undecided)
        return settled(first, by, worst=False).estimates

    kinks = alternatives(reference, look.estimates, undecided, estimated)
    chosen = {name: look.claim.by_convention(name, look.estimates[name], of) for name, of in kinks.items()}
    return look.after(look.estimates | chosen), {name: of.at for name, of in kinks.items()}
