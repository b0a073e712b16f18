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
from collections.abc import Mapping
from math import inf
from typing import Literal

import numpy as np

from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.loss_functions import (
    common,
    gaussian_nll,
    multi_margin,
    per_output,
    per_sample,
    rises,
    rises_with_kinks,
)
from gradcheck_cli.network.loss_functions.rounding import (
    AgainstTheLabelRounding,
    CoupledRounding,
    CrossEntropyRounding,
    DiceRounding,
    HingeRounding,
)
from gradcheck_cli.types import Shape

Reduction = Literal["batchmean", "mean", "sum"]


_ROWS: tuple[Loss, ...] = (
    Loss("mse", common.mse, lambda a, target: 2.0 * (a - target), rise=rises.MSE, formula="2 (a − y)"),
    Loss(
        "l1",
        lambda a, target: row_sums(common.absolute(a - target)),
        lambda a, target: np.sign(a - target),
        pieces=lambda a, target: np.sign((a - target).real),
        branch=lambda a, target, sign: row_sums(sign * (a - target)),
        sides=(-1, 0, 1),
        rise=rises_with_kinks.L1,
        formula="sign(a − y)",
    ),
    Loss(
        "huber",
        common.huber,
        lambda a, target, delta: np.clip(a - target, -delta, delta),
        pieces=common.huber_pieces,
        branch=common.huber_branch,
        sides=(0,),
        rise=rises_with_kinks.HUBER,
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
        rise=rises_with_kinks.HINGE,
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
        rise=rises_with_kinks.MULTI_MARGIN,
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
        rise=rises_with_kinks.GAUSSIAN_NLL,
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
        rise=rises_with_kinks.SMOOTH_L1,
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
        rise=rises.FOCAL,
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
        rounding=DiceRounding(),
        rise=rises.DICE,
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
        first_plane=per_sample.FIRST_PLANE,
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
        rise=rises.KL_GAUSSIAN,
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
