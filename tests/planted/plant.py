"""A planted mistake: replaced parts of a backward pass written by hand, with its kind and variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from by_hand import (
    Array,
    Case,
    Edit,
    Gradients,
    Pass,
    by_hand,
)

Rng = np.random.Generator
Formula = Callable[[Pass, Any, Rng], Any]
Parts = Mapping[str, Formula]

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "activation derivative": (
        "activation derivative missing",
        "activation derivative at a",
        "activation derivative at z instead of a",
        "activation derivative at the input",
        "activation derivative without the bias",
        "activation derivative twice",
        "mask of the gradient",
        "upstream gradient dropped",
        "flat spot added",
    ),
    "activation formula": (
        "another activation's derivative",
        "activation option",
        "slip in the activation's formula",
        "softmax diagonal only",
    ),
    "loss": (
        "output activation twice",
        "output activation missing",
        "sign of the target",
        "target forgotten",
        "another loss",
        "huber threshold",
        "huber sign",
        "hinge not counted",
        "hinge margin",
        "label smoothing",
        "class weights",
        "class weights normalised by N",
        "target's entry alone",
        "positive targets alone",
        "negative targets alone",
    ),
    "scale or reduction": (
        "missing 1/N",
        "1/N twice",
        "missing 1/C",
        "1/C twice",
        "factor 2",
        "factor 1/2",
        "sign",
        "factor",
    ),
    "accumulated": ("accumulated",),
    "bias reduction": (
        "bias averaged",
        "bias not summed",
        "bias summed along the wrong axis",
        "bias summed over everything",
        "bias gradient summed over the inputs",
    ),
    "batch norm": (
        "batch norm: mean term missing",
        "batch norm: variance term missing",
        "batch norm: statistics held constant",
        "batch norm: unbiased variance",
        "batch norm: gamma forgotten",
        "batch norm: divided by the variance",
        "batch norm: left out",
        "batch norm: gamma gradient from z",
        "batch norm: gradient of gamma or beta averaged",
        "batch norm: mean subtracted twice",
        "batch norm: variance term twice",
        "batch norm: another eps",
        "batch norm: eps outside the root",
    ),
    "overflow": ("overflow",),
    "updated too early": ("weights updated first",),
    "transposed": ("transposed product", "transposed weights", "transposed gradient"),
    "penalty": (
        "penalty forgotten",
        "penalty doubled",
        "penalty halved",
        "penalty with the wrong sign",
        "penalty divided by N",
        "penalty on the biases too",
        "penalty of the other kind",
        "elastic net mixed up",
        "penalty strength",
        "penalty that the spec lacks",
    ),
    "wrong tensor": (
        "samples out of order",
        "pre-activation in place of the activation",
        "another layer's activation",
        "another layer's delta",
        "delta before the activation",
        "tensors swapped",
        "outer product of sums",
        "parameters in place of the gradient",
        "weights left out on the way down",
        "absolute weights on the way down",
        "another layer's weights",
    ),
    "samples": ("last sample lost", "first sample lost", "batch subset"),
    "entries": (
        "single entries",
        "unit zeroed",
        "row",
        "column",
        "gradient zero",
        "rows permuted",
        "clipped",
        "clipped by norm",
    ),
    "precision": ("few decimals", "few digits", "float16", "float32"),
}
FAMILY_OF: Mapping[str, str] = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}


@dataclass(frozen=True)
class Plant:
    """One mistake in one network.

    also: other kinds that are equally right answers on every network of this type.
    whole: whether the mistake belongs to no particular layer.
    """

    kind: str
    variant: str
    edits: tuple[Edit, ...]
    also: frozenset[str] = frozenset()
    whole: bool = False

    @property
    def family(self) -> str:
        return FAMILY_OF[self.kind]

    @property
    def right_kinds(self) -> frozenset[str]:
        return self.also | {self.kind}

    @property
    def name(self) -> str:
        places = sorted({str(edit.at) for edit in self.edits if edit.at is not None})
        made = "everywhere" if self.whole else f"at {', '.join(places)}" if places else ""
        return f"{self.kind} ({'; '.join(filter(None, [self.variant, made]))})".removesuffix(" ()")

    def gradients(self, case: Case) -> Gradients:
        return by_hand(case, self.edits)

    def layers(self, case: Case) -> tuple[str, ...]:
        """Return the layers with the mistake, from the output down; none if it belongs to no layer."""
        if self.whole:
            return ()
        made = {_layer_of(case, edit) for edit in self.edits}
        return tuple(layer.name for i, layer in reversed(list(enumerate(case.layers))) if i in made)

    def trimmed(self, case: Case) -> Plant:
        """Return the plant without the layers in which it makes no difference."""
        if self.whole:
            return self
        kept, full = self.edits, self.gradients(case)
        for i in {_layer_of(case, edit) for edit in self.edits}:
            fewer = tuple(edit for edit in kept if _layer_of(case, edit) != i)
            if not differ(by_hand(case, fewer), full, 1e-9):
                kept = fewer
        return replace(self, edits=kept)


def differ(some: Gradients, others: Gradients, share: float) -> bool:
    """Return whether any entry differs by more than this share of its tensor's largest entry.

    Differences below 1e-13 of the largest entry of all tensors count as rounding, as in the gradient of a
    bias below batch normalisation.
    """

    def largest(g: Array) -> float:
        return float(np.abs(g[np.isfinite(g)]).max(initial=0.0))

    rounding = 1e-13 * max(largest(g) for g in others.values())
    with np.errstate(invalid="ignore"):
        return any(
            not np.isclose(some[name], g, 0.0, max(share * largest(g), rounding), equal_nan=True).all()
            for name, g in others.items()
        )


def _layer_of(case: Case, edit: Edit) -> int:
    """Return the layer of an edit. An edit without a place belongs to the output, where the chain begins."""
    if edit.at is None:
        return len(case.layers) - 1
    return edit.at if isinstance(edit.at, int) else _index(case, edit.at)


def _index(case: Case, tensor: str) -> int:
    return [layer.name for layer in case.layers].index(tensor.rsplit(".", 1)[0])


def drawn_seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


Maker = Callable[[str, Case, Rng], Iterator[Plant]]
