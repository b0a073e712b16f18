"""The table of losses: one row per loss, with its value next to its gradient.

To add a loss, add its row; the spec, the command line and the tests read the table. The functions of most
losses are in the package `loss_functions`.

Every function takes a network's C outputs for N samples, `a` (…, N, C), and a target (N, C). Every function
treats each sample separately; the network reduces over the samples. `value` must also accept a complex a. If
the outputs have T positions, (N, T, C), each position has a loss of its own, and the loss of a sample is the
sum over the positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import numpy as np

from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.loss_functions import (
    common,
    gaussian_nll,
    multi_margin,
    per_output,
    per_sample,
    rises,
)
from gradcheck_cli.network.loss_functions.rounding import (
    NUDGED_LOSS,
    AgainstTheLabelRounding,
    CoupledRounding,
    CrossEntropyRounding,
    HingeRounding,
    LossRounding,
    RoundingOfPositions,
    RoundingOfWeighted,
)
from gradcheck_cli.network.rise import Rise
from gradcheck_cli.network.rows import bound
from gradcheck_cli.types import Array, Shape

Function = Callable[..., Array]
Reduction = Literal["batchmean", "mean", "sum"]
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
    tip:        for a loss with a cone, the length of a vector that is 0 at the cone's tip, shape (…, N).
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
    rise:       the change of ℓ after a change of a, without cancellation; None if unknown or with kinks.
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
            rise=None,
            has_weights=True,
            formula=f"wₙ {self.formula}",
        )

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


_ROWS: tuple[Loss, ...] = (
    Loss("mse", common.mse, lambda a, target: 2.0 * (a - target), rise=rises.MSE, formula="2 (a − y)"),
    Loss(
        "l1",
        lambda a, target: row_sums(common.absolute(a - target)),
        lambda a, target: np.sign(a - target),
        pieces=lambda a, target: np.sign((a - target).real),
        branch=lambda a, target, sign: row_sums(sign * (a - target)),
        sides=(-1, 0, 1),
        formula="sign(a − y)",
    ),
    Loss(
        "huber",
        common.huber,
        lambda a, target, delta: np.clip(a - target, -delta, delta),
        pieces=common.huber_pieces,
        branch=common.huber_branch,
        sides=(0,),
        options={"delta": 1.0},
        formula="clip(a − y, ± delta)",
    ),
    Loss(
        "cross_entropy",
        common.cross_entropy,
        common.cross_entropy_gradient,
        per_output=False,
        target="distribution",
        of_target=("label_smoothing", "weight", "ignore_index"),
        of_weighted_target=True,
        ignored=(-100,),
        applies="softmax",
        unbounded=True,
        rounding=CrossEntropyRounding(),
        rise=rises.CROSS_ENTROPY,
        formula="(softmax(a) − y)",
    ),
    Loss(
        "bce_with_logits",
        common.bce_with_logits,
        common.bce_with_logits_gradient,
        applies="sigmoid",
        unbounded=True,
        limits=(0.0, 1.0),
        rise=rises.BCE,
        options={"pos_weight": 1.0},
        formula="(σ(a) − y)",
        formula_with_options="((1 − y) σ(a) − pos_weight y (1 − σ(a)))",
    ),
    Loss(
        "hinge",
        common.hinge,
        common.hinge_gradient,
        pieces=lambda a, target: common.margins(a, target).real > 0,
        branch=common.hinge_branch,
        sides=(False, True),
        per_output=False,
        target="labels",
        unbounded=True,
        rounding=HingeRounding(),
        formula="(1[aⱼ − a_y + 1 > 0], minus their sum at y)",
    ),
    Loss(
        "multi_margin",
        multi_margin.multi_margin,
        multi_margin.multi_margin_gradient,
        pieces=multi_margin.multi_margin_pieces,
        branch=multi_margin.multi_margin_branch,
        sides=(False, True),
        per_output=False,
        target="labels",
        of_target=("weight",),
        of_weighted_target=True,
        weighted_mean=False,
        unbounded=True,
        rounding=AgainstTheLabelRounding(),
        options={"p": 1, "margin": 1.0},
        formula="w_y / C (p over^(p − 1), minus their sum at y), over = max(0, aⱼ − a_y + margin)",
    ),
    Loss("dot", per_output.dot, per_output.dot_gradient, target="upstream", rise=rises.DOT, formula="y"),
    Loss(
        "nll",
        per_output.negative_dot,
        per_output.negative_dot_gradient,
        per_output=False,
        target="labels",
        of_target=("weight", "ignore_index"),
        of_weighted_target=True,
        ignored=(-100,),
        unbounded=True,
        rise=rises.NEGATIVE_DOT,
        formula="(−y)",
    ),
    Loss(
        "kl_div",
        per_output.kl_div,
        per_output.negative_dot_gradient,
        target="distribution",
        unbounded=True,
        rise=rises.NEGATIVE_DOT,
        formula="(−y)",
    ),
    Loss(
        "poisson_nll",
        per_output.poisson_nll,
        per_output.poisson_nll_gradient,
        unbounded=True,
        limits=(0.0, inf),
        rise=rises.POISSON,
        formula="(e^a − y)",
    ),
    Loss(
        "gaussian_nll",
        gaussian_nll.gaussian_nll,
        gaussian_nll.gaussian_nll_gradient,
        pieces=gaussian_nll.gaussian_nll_pieces,
        branch=gaussian_nll.gaussian_nll_branch,
        sides=(False, True),
        per_output=False,
        per_entry=True,
        target="first vector",
        vectors=("mean", "var"),
        options={"eps": 1e-6},
        formula="((mean − y) / var, ½ (1 − (mean − y)² / var) / var), var at least eps",
    ),
    Loss(
        "smooth_l1",
        per_output.smooth_l1,
        per_output.smooth_l1_gradient,
        pieces=per_output.smooth_l1_pieces,
        branch=per_output.smooth_l1_branch,
        sides=(0,),
        options={"beta": 1.0},
        formula="clip((a − y) / beta, ± 1)",
    ),
    Loss(
        "focal",
        per_output.focal,
        per_output.focal_gradient,
        applies="sigmoid",
        unbounded=True,
        limits=(0.0, 1.0),
        options={"alpha": 0.25, "gamma": 2.0},
        formula="w (q^gamma (p − y) − gamma q^(gamma − 1) p (1 − p) (2 y − 1) bce), q = 1 − p at y",
    ),
    Loss(
        "dice",
        per_sample.dice,
        per_sample.dice_gradient,
        per_output=False,
        applies="sigmoid",
        unbounded=True,
        limits=(0.0, 1.0),
        rounding=CoupledRounding(),
        options={"smooth": 1.0},
        formula="p (1 − p) ((2 Σ p y + smooth) / D − 2 y) / D, D = Σ p + Σ y + smooth",
    ),
    Loss(
        "cosine",
        per_sample.cosine,
        per_sample.cosine_gradient,
        pieces=per_sample.cosine_pieces,
        branch=per_sample.cosine_branch,
        sides=(False, True),
        margin=per_sample.cosine_margin,
        per_output=False,
        rounding=CoupledRounding(),
        options={"eps": 1e-8},
        formula="(cos(a, y) a / |a| − y / |y|) / |a|",
    ),
    Loss(
        "triplet",
        per_sample.triplet,
        per_sample.triplet_gradient,
        pieces=per_sample.triplet_pieces,
        branch=per_sample.triplet_branch,
        sides=(False, True),
        margin=per_sample.triplet_margin,
        per_output=False,
        target="nothing",
        vectors=("anchor", "positive", "negative"),
        rounding=CoupledRounding(),
        options={"margin": 1.0, "eps": 1e-6},
        formula="1[L > 0] (u − v, −u, v), u = (anchor − positive) / |…|, v = (anchor − negative) / |…|",
    ),
    Loss(
        "contrastive",
        per_sample.contrastive,
        per_sample.contrastive_gradient,
        pieces=per_sample.contrastive_pieces,
        branch=per_sample.contrastive_branch,
        sides=(False,),
        margin=per_sample.contrastive_margin,
        tip=per_sample.contrastive_tip,
        per_output=False,
        target="pairs",
        vectors=("first", "second"),
        rounding=CoupledRounding(),
        options={"margin": 1.0},
        formula="(g, −g), g = 2 y (first − second) − 2 (1 − y) max(0, margin − d) (first − second) / d",
    ),
    Loss(
        "kl_gaussian",
        per_sample.kl_gaussian,
        per_sample.kl_gaussian_gradient,
        per_output=False,
        target="nothing",
        vectors=("mu", "logvar"),
        unbounded=True,
        rounding=CoupledRounding(absolute=1.0, near_one=False),
        formula="(mu, ½ (e^logvar − 1))",
    ),
)

LOSSES: Mapping[str, Loss] = {row.name: row for row in _ROWS}


def coefficient(loss: Loss, reduction: Reduction, scale: float, outputs: Shape, weight: float) -> float:
    """Return the factor c in L = c Σₙ ℓₙ, where ℓₙ is the loss of sample n.

    `batchmean` averages over the samples and sums over positions and outputs. `mean` averages over all three,
    and `sum` sums over all three.

    outputs: the shape of one sample of the output, (C,) or (*positions, C), for C outputs per position.
    weight: the number of samples times the number of positions or, with class weights, the sum of the weights
        of all labels.
    """
    *positions, units = outputs
    divisor = {
        "sum": 1.0,
        "batchmean": weight / math.prod(positions),
        "mean": weight * loss.terms(units),
    }
    return scale / divisor[reduction]


def same_loss(one: float, other: float, eps: float) -> bool:
    """Return whether two losses are equal up to rounding in a type with the machine epsilon `eps`."""
    return abs(one - other) <= max(1e-6, 1e3 * eps) * max(abs(one), abs(other))
