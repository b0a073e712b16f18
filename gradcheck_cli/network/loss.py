"""A loss of one sample, with its gradient: the type of a row of `LOSSES`, and the losses made from rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.loss_functions import rises
from gradcheck_cli.network.loss_functions.rounding import (
    NUDGED_LOSS,
    LossRounding,
    RoundingOfPositions,
    RoundingOfWeighted,
)
from gradcheck_cli.network.rise import Rise
from gradcheck_cli.network.rows import bound
from gradcheck_cli.types import Array

Function = Callable[..., Array]
Target = Literal["values", "first vector", "upstream", "distribution", "labels", "pairs", "nothing"]


@dataclass(frozen=True)
class Loss:
    """A loss ℓ(a, target) of one sample, with its gradient and its smooth pieces.

    N is the number of samples, C the number of outputs a.

    name:       the loss's name in a spec.
    value:      ℓ for each sample, summed over the sample's outputs, (…, N).
    gradient:   ∂ℓ/∂a, (…, N, C).
    pieces:     for a loss with kinks, the smooth piece that each output a is on, (…, N, C).
    branch:     for a loss with kinks, a function that computes ℓ from given smooth pieces, (…, N), even if an
                output is on another piece.
    sides:      for a loss with kinks, the pieces whose slopes are common choices at the kink.
    margin:     for a loss with one kink per sample, a number that is positive on one side of the kink and
                negative on the other, (…, N).
    tip:        for a loss with a cone, the length of a vector that is 0 at the cone's tip, shape (…, N). Its
                branch has one plane for each of the C outputs, on the sides from `first_plane` on. The slopes
                of the cone lie between those of the planes.
    per_output: whether ℓ is a sum of one term per output. If so, the reduction `mean` also divides by C.
    per_entry:  whether ℓ is a sum of one term per entry of a vector. If so, `mean` also divides by the number
                of these entries.
    target:     the kind of y: "values", one for each output (labels become one-hot); "first vector", a value
                for each entry of the first vector; "upstream", a gradient ∂ℓ/∂a, which is drawn at
                random for synthetic data; "distribution", probabilities of the outputs (or labels); "labels";
                "pairs", 1 for two embeddings that are alike, else 0; or "nothing", if y is ignored.
    of_target:  the names of the options that change the target or leave out samples.
    of_weighted_target: whether ℓ is proportional to the target, so that a weight can be applied to it.
    has_weights: whether the target has one more column, with the weight of each sample.
    weighted_mean: whether a mean divides by the sum of the samples' class weights, not by N.
    ignored:    the labels of samples that do not count.
    vectors:    the names of the vectors, all of the same width, that the outputs consist of; empty if the
                outputs are a single vector.
    applies:    the activation that the loss applies to its logits; None if it applies none.
    unbounded:  whether the outputs may have any size, as logits and scores compared with a margin do.
    limits:     the range in which each target should be.
    rounding:   bounds on the rounding errors of value and gradient; the default works for any loss.
    rise:       the change of ℓ after a change of a, without cancellation; None if no formula is known or if
                ℓ is a sum over positions. A loss with kinks gives the change on the pieces that a is on.
    options:    the names and defaults of the loss's options, such as delta.
    given:      the values of the options that are bound to the functions.
    by_column:  whether an option has a number for each output.
    formula:    the gradient as a textbook writes it.
    formula_with_options: the gradient with other options than the defaults, if `formula` leaves them out.
    """

    name: str
    value: Function
    gradient: Function
    pieces: Function | None = None
    branch: Function | None = None
    sides: tuple[float, ...] = ()
    margin: Function | None = None
    tip: Function | None = None
    first_plane: int = 0
    per_output: bool = True
    per_entry: bool = False
    target: Target = "values"
    of_target: tuple[str, ...] = ()
    of_weighted_target: bool = False
    has_weights: bool = False
    weighted_mean: bool = True
    ignored: tuple[int, ...] = ()
    vectors: tuple[str, ...] = ()
    applies: str | None = None
    unbounded: bool = False
    limits: tuple[float, float] = (-inf, inf)
    rounding: LossRounding = NUDGED_LOSS
    rise: Rise | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    by_column: bool = False
    formula: str = "∂ℓ/∂a"
    formula_with_options: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """The keys that a spec may set for this loss: its options and those of every loss."""
        return ("reduction", "scale", *self.options, *self.of_target, "sample_weight")

    @property
    def alone(self) -> bool:
        """Whether the loss is a sum with one term per output, so that each term can be evaluated alone."""
        return self.per_output and not self.by_column and not self.has_weights

    def plain(self, target: Array) -> Array:
        """Return the target, (N, C), without the column of weights."""
        return target[..., :-1] if self.has_weights else target

    def weights(self, target: Array) -> Array | float:
        """Return the weight of each sample, (N, 1), that is not part of the plain target."""
        return target[..., -1:] if self.has_weights else 1.0

    def terms(self, units: int) -> int:
        """Return the number of terms per position that the reduction `mean` averages over.

        units: the number of outputs per position.
        """
        if self.per_entry:
            return units // len(self.vectors)
        return units if self.per_output else 1

    @property
    def takes_labels(self) -> bool:
        """Whether a y with one number per sample always holds labels, even for a network with one output."""
        return self.target in ("distribution", "labels", "pairs")

    def with_options(self, **given: Any) -> Loss:
        """Return a copy with the given options bound to its functions, so that `value` takes (a, target)."""
        options = {**self.options, **given}
        functions = bound(self, options, "value", "gradient", "pieces", "branch", "margin", "tip")
        changed = any(np.any(np.asarray(options[name]) != default) for name, default in self.options.items())
        formula = self.formula_with_options or self.formula if changed else self.formula
        by_column = any(map(np.ndim, options.values()))
        rise = self.rise and self.rise.with_options(options)
        return replace(self, **functions, given=options, rise=rise, by_column=by_column, formula=formula)

    def weighted(self) -> Loss:
        """Return this loss times a weight for each sample, which is the last column of the target.

        A loss that is proportional to its target stays as it is: the target is multiplied by the weights.
        """
        if self.of_weighted_target:
            return self

        def unweighted(function: Function | None) -> Function | None:
            return function and (lambda a, target, *given: function(a, target[..., :-1], *given))

        def times(function: Function) -> Function:
            return lambda a, target, *given: target[..., -1] * function(a, target[..., :-1], *given)

        return replace(
            self,
            value=times(self.value),
            gradient=lambda a, target: target[..., -1:] * self.gradient(a, target[..., :-1]),
            pieces=unweighted(self.pieces),
            branch=self.branch and times(self.branch),
            margin=unweighted(self.margin),
            tip=unweighted(self.tip),
            rounding=RoundingOfWeighted(self),
            rise=self.rise and rises.weighted(self.rise),
            has_weights=True,
            formula=f"wₙ {self.formula}",
        )

    def like(self, other: Loss) -> Loss:
        """Return this loss for the target of another one, which may have weights for the samples."""
        return self.weighted() if other.has_weights else self

    def over(self, positions: int) -> Loss:
        """Return a loss for outputs with positions: the sum of this loss over all positions.

        The outputs have the shape (…, N, *positions, C), for N samples and C outputs per position.

        positions: the number of position axes.
        """
        if not positions:
            return self
        axes = tuple(range(-positions, 0))

        def summed(function: Function) -> Function:
            return lambda *given: function(*given).sum(axis=axes)

        branch = None if self.branch is None else summed(self.branch)
        rounding = RoundingOfPositions(self, axes)
        return replace(self, value=summed(self.value), branch=branch, rise=None, rounding=rounding)
