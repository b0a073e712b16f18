"""Mistakes of every kind that a diagnosis names, made in a backward pass written by hand.

`KINDS` yields every way to make each kind of mistake in a network. Each variant of a kind is made in all
layers, in one random layer, in the output layer, and in the first hidden layer, with random unknowns. A
`Plant` is a set of replaced parts of `by_hand.Pass`, so two plants can be combined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from by_hand import (
    Case,
    Edit,
    Gradients,
)
from planted import activations, losses, penalties, products, scales, tensors
from planted.plant import FAMILIES, FAMILY_OF, Maker, Plant, Rng, differ

__all__ = ["ALONE", "FAMILIES", "FAMILY_OF", "KINDS", "Plant", "differ", "draw", "together"]


KINDS: Mapping[str, Maker] = {
    **dict.fromkeys(products.LAYERED, products.layered),
    **dict.fromkeys(losses.LOSS_PLANTS, losses.of_the_loss),
    "another activation's derivative": activations.anothers,
    "slip in the activation's formula": activations.slips,
    "missing 1/N": scales.missing_n,
    "1/N twice": scales.n_twice,
    "missing 1/C": scales.missing_c,
    "1/C twice": scales.c_twice,
    "factor 2": lambda kind, case, rng: scales.everywhere_times(kind, case, rng, 2.0),
    "factor 1/2": lambda kind, case, rng: scales.everywhere_times(kind, case, rng, 0.5),
    "sign": scales.sign,
    "factor": scales.factor,
    "accumulated": scales.accumulated,
    "transposed gradient": tensors.transposed_gradient,
    "penalty forgotten": penalties.penalty_times(lambda case: 0.0),
    "penalty doubled": penalties.penalty_times(lambda case: 2.0),
    "penalty halved": penalties.penalty_times(lambda case: 0.5),
    "penalty with the wrong sign": penalties.penalty_times(lambda case: -1.0),
    "penalty divided by N": penalties.penalty_times(lambda case: 1.0 / case.samples),
    "penalty on the biases too": penalties.on_the_biases,
    "penalty of the other kind": penalties.of_the_other_kind,
    "elastic net mixed up": penalties.mixed_up,
    "penalty strength": penalties.of_any_strength,
    "penalty that the spec lacks": penalties.lacked,
    "tensors swapped": tensors.swapped,
    "last sample lost": tensors.lost(products.all_but_last),
    "first sample lost": tensors.lost(products.all_but_first),
    "batch subset": tensors.subset,
    "single entries": tensors.single_entries,
    "unit zeroed": tensors.unit_zeroed,
    "row": tensors.line(0),
    "column": tensors.line(1),
    "gradient zero": tensors.zero,
    "rows permuted": tensors.rows_permuted,
    "clipped": tensors.clipped,
    "clipped by norm": tensors.clipped_by_norm,
    "overflow": tensors.overflow,
    "few decimals": tensors.printed(tensors.to_decimals),
    "few digits": tensors.printed(tensors.to_digits),
    "float16": tensors.precision(np.float16),
    "float32": tensors.precision(np.float32),
}


def draw(kind: str, case: Case, rng: Rng, seen: Callable[[Gradients], bool]) -> Plant | None:
    """Draw a mistake of this kind, in any variant and scope, that is visible according to `seen`.

    Return None if there is no such mistake.
    """
    variants: dict[str, list[Plant]] = {}
    for plant in KINDS[kind](kind, case, rng):
        variants.setdefault(plant.variant, []).append(plant)
    for variant in rng.permutation(
        list(variants)
    ):  # all variants are equally likely, however many scopes they have
        scopes = variants[str(variant)]
        for k in rng.permutation(len(scopes)):
            plant = scopes[k].trimmed(case)
            if plant.edits and seen(plant.gradients(case)):
                return plant
    return None


SCALES = ("scale or reduction", "accumulated")
"""Families of plain factors. Two mistakes from these families cannot be separated."""
ALONE = ("overflow", "precision")
"""Families whose mistakes hide any other mistake. They are planted alone."""


def together(first: Plant, second: Plant) -> tuple[Edit, ...] | None:
    """Combine both mistakes in one pass, or return None if they interfere."""
    families = {first.family, second.family}
    touched = {(edit.part, edit.at) for edit in first.edits} & {(edit.part, edit.at) for edit in second.edits}
    if first.kind == second.kind or touched or families & set(ALONE):
        return None
    if all(plant.family in SCALES or plant.kind == "clipped by norm" for plant in (first, second)):
        return None
    return (*first.edits, *second.edits)
