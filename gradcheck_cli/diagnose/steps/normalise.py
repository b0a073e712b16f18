"""Mistakes in the backward pass of batch, layer and group normalisation.

The mistakes are those that `table.py` lists for batch normalisation in chains of layers, and three more: a
γ that is left out, means over the wrong axis, and statistics of the wrong group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from gradcheck_cli.diagnose.families import GROUP_NORM as GROUP_NORM_FAMILY
from gradcheck_cli.diagnose.families import LAYER_NORM as LAYER_NORM_FAMILY
from gradcheck_cli.diagnose.families import NORM, Family
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.norm_sites import Averaged, norm_below, norm_site, scale_site
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.sites import result_of
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, share, variant
from gradcheck_cli.diagnose.wrong_norms import WITHOUT_GAMMA
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.types import Array

W = TypeVar("W", bound=Wrong)


@dataclass(frozen=True)
class Norm:
    """A kind of normalisation.

    name: the first words in the names of this normalisation's mistakes.
    words: the normalisation's name in sentences.
    family: the family of the mistakes.
    count: the symbol for the number of entries in a mean.
    axis: the wrong axis in the example on a mistake's page in the documentation.
    includes: a function that returns whether a step is of this kind.
    """

    name: str
    words: str
    family: Family
    count: str
    axis: str
    includes: Callable[[Normalise], bool]

    def told(self, wrong: W) -> W:
        """Return a batch-normalisation mistake reworded for this normalisation."""
        kind = wrong.kind.replace("batch norm", self.name)
        sentence = wrong.sentence.replace("batch normalisation", self.words)
        sentence = sentence.replace("N − 1", f"{self.count} − 1")
        code = wrong.code if self.count == "N" else _of_samples(wrong.code)
        return replace(wrong, kind=kind, family=self.family, sentence=sentence, code=code)


_NAMES = {"delta_h": "dL_dx", "dL_dy_h": "dL_dy", "y_h": "a", "z_h": "x"}
_MEANS_OF_SAMPLES = (
    ("z_h.var(axis=0, ddof=1)", "n * mean((x - mean(x)) ** 2) / (n - 1)"),
    ("z_h.std(axis=0)", "np.sqrt(mean((x - mean(x)) ** 2))"),
    ("(g * {}).sum(axis=0) / (N - 1)", "n * mean(g * {}) / (n - 1)"),
    ("(g * {}).sum(axis=0)", "n * mean(g * {})"),
    ("(g * {}).mean(axis=0)", "mean(g * {})"),
    ("g.sum(axis=0) / (N - 1)", "n * mean(g) / (n - 1)"),
    ("g.sum(axis=0)", "n * mean(g)"),
    ("g.mean(axis=0)", "mean(g)"),
    ("z_h.mean(axis=0)", "mean(x)"),
)


def _of_samples(code: str) -> str:
    """Return code for batch normalisation, rewritten with means over the units of a sample.

    In the new code, a function `mean` computes these means. The sums for γ and β remain sums over the samples
    and any positions.
    """
    if code.startswith(("dL_dgamma", "dL_dbeta")):
        code = code.replace("z_h.mean(axis=0)", "mean(x)").replace("axis=0", "axis=over")
    for z_hat in ("z_hat", "z_unbiased"):
        for batch, sample in _MEANS_OF_SAMPLES:
            code = code.replace(batch.format(z_hat), sample.format(z_hat))
    for name, own in _NAMES.items():
        code = re.sub(rf"\b{name}\b", own, code)
    return code


NORMS = (
    Norm("batch norm", "batch normalisation", NORM, "N", "1", lambda step: step.couples == "batch"),
    Norm(
        "layer norm",
        "layer normalisation",
        LAYER_NORM_FAMILY,
        "n",
        "0",
        lambda step: step.couples == "row" and not isinstance(step, GroupNormalise),
    ),
    Norm(
        "group norm",
        "group normalisation",
        GROUP_NORM_FAMILY,
        "n",
        "2",
        lambda step: isinstance(step, GroupNormalise),
    ),
)


def step_of(visit: Visit) -> Normalise:
    """Return the step of the visited node, which is a normalisation."""
    assert isinstance(visit.step, Normalise)
    return visit.step


# --- the mistakes of a chain -------------------------------------------------------------------------------


def _of_norm(mistake: Mistake, norm: Norm) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        if not norm.includes(step_of(visit)):
            return None
        averaged = Averaged.of(step_of(visit), visit.inputs[0])
        delta = result_of(mistake, norm_site(visit, averaged), value)
        return None if delta is None else ((averaged.array(delta),), {})

    return backward


def _of_scale(mistake: Mistake, norm: Norm) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        below, site = norm_below(visit), scale_site(visit)
        if below is None or site is None or not norm.includes(step_of(below)):
            return None
        result, (shares, gradients) = result_of(mistake, site, value), visit.right
        gamma, beta = visit.step.shapes
        name = gamma if mistake.part is Part.GAMMA else beta
        return (
            None if result is None else (shares, {**gradients, name: result.reshape(gradients[name].shape)})
        )

    return backward


def _without_gamma(norm: Norm) -> Backward:
    def of(visit: Visit) -> Array | None:
        below = norm_below(visit)
        return visit.upstream if below is not None and norm.includes(step_of(below)) else None

    return share(of)


GAMMA_FORGOTTEN = Wrong(
    "batch norm: gamma forgotten",
    NORM,
    "in {where}, batch normalisation's backward pass lacks γ",
    "∂L/∂ẑ = ∂L/∂y",
    "∂L/∂ẑ = γ ∂L/∂y",
    "δ",
    code="g = dL_dy_h",
)

_NORM = tuple(
    mistake for mistake in MISTAKES[Part.NORM] if mistake.solver is None and mistake not in WITHOUT_GAMMA
)
_SCALE = (*MISTAKES[Part.GAMMA], *MISTAKES[Part.BETA])


def _of_chains(norm: Norm) -> Iterator[Variant]:
    yield Variant(norm.told(GAMMA_FORGOTTEN), Scale, _without_gamma(norm))
    yield from (Variant(norm.told(mistake), Normalise, _of_norm(mistake, norm)) for mistake in _NORM)
    yield from (Variant(norm.told(mistake), Scale, _of_scale(mistake, norm)) for mistake in _SCALE)


# --- means over other entries ------------------------------------------------------------------------------

Mean = Callable[[Visit, Array], Array | None]
"""A function that takes a visit and an array, and returns means over the wrong entries of the array.

The means broadcast to the array's shape. The result is None if such means do not exist.
"""

RIGHT_DELTA = "δ = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps)"


def _over(*axes: int) -> Mean:
    """Return a `Mean` function that averages over these axes. It returns None if an axis does not exist."""

    def mean(visit: Visit, array: Array) -> Array | None:
        known = {axis % array.ndim for axis in axes if -array.ndim <= axis < array.ndim}
        averaged: Array = array.mean(axis=tuple(known), keepdims=True)
        return averaged if len(known) == len(axes) else None

    return mean


def _over_sample(visit: Visit, array: Array) -> Array:
    averaged: Array = array.mean(axis=tuple(range(1, array.ndim)), keepdims=True)
    return averaged


def _over_positions(visit: Visit, array: Array) -> Array | None:
    return None if array.ndim < 3 else array.mean(axis=tuple(range(2, array.ndim)), keepdims=True)


def _over_everything(visit: Visit, array: Array) -> Array:
    return np.full((1,) * array.ndim, array.mean())


def _over_next_channels(visit: Visit, array: Array) -> Array | None:
    """Return means over every G-th channel, for G groups, as if these channels were a group."""
    step = visit.step
    if not isinstance(step, GroupNormalise) or step.groups in (1, array.shape[1]):
        return None
    split = array.reshape(len(array), array.shape[1] // step.groups, step.groups, -1)
    means = np.broadcast_to(split.mean(axis=(1, 3), keepdims=True), split.shape)
    return means.reshape(array.shape)


def _with_mean(norm: Norm, mean: Mean) -> Backward:
    def of(visit: Visit) -> Array | None:
        if not norm.includes(step_of(visit)):
            return None
        g, z_hat = visit.upstream, visit.output
        of_g, along = mean(visit, g), mean(visit, g * z_hat)
        if of_g is None or along is None or np.array_equal(of_g, step_of(visit).mean_of(g)):
            return None
        return (g - of_g - z_hat * along) / step_of(visit).deviation(visit.inputs[0])

    return share(of)


MEANS: tuple[tuple[Mean, str, str], ...] = (
    (_over(0), "the samples", "0"),
    (_over(1), "the first axis of a sample", "1"),
    (_over(-2), "the last axis but one", ""),
    (_over(-1), "the last axis", ""),
    (_over_positions, "the positions of each channel", "2"),
    (_over_sample, "all entries of a sample", ""),
    (_over_everything, "all entries of the batch", ""),
)
"""The wrong means. Each row holds a function, words for the entries that it averages, and the numpy axis."""


def _code_over(norm: Norm, axis: str) -> str:
    """Return numpy code with means over `axis`, or "" if the example in the docs uses another axis."""
    of_g, along = (f"{array}.mean(axis={axis}, keepdims=True)" for array in ("g", "(g * z_hat)"))
    name = "delta_h" if norm.count == "N" else "dL_dx"
    return f"{name} = (g - {of_g} - z_hat * {along}) / deviation" if axis == norm.axis else ""


def _over_wrong_axes(norm: Norm) -> Iterator[Variant]:
    for mean, over, axis in MEANS:
        yield variant(
            Normalise,
            f"{norm.name}: over the wrong axis",
            norm.family,
            _with_mean(norm, mean),
            f"{norm.words}'s backward pass takes its means over {over}",
            f"δ = (g − mean g − ẑ mean(g ẑ)) / √(…), means over {over}",
            RIGHT_DELTA,
            _code_over(norm, axis),
        )


# --- groups of other channels ------------------------------------------------------------------------------


def _of_other_groups(step: GroupNormalise, x: Array) -> tuple[Array, Array] | None:
    """Return ẑ and the deviation as if each channel had the statistics of group `channel % groups`."""
    if step.groups in (1, x.shape[1]):
        return None
    size = x.shape[1] // step.groups
    first = (np.arange(x.shape[1]) % step.groups) * size  # a channel of that group
    deviation = np.broadcast_to(step.deviation(x), x.shape)[:, first]
    mean = (x - step.forward({}, x) * step.deviation(x))[:, first]
    return (x - mean) / deviation, deviation


def _with_other_statistics(visit: Visit) -> Array | None:
    step, g = visit.step, visit.upstream
    other = _of_other_groups(step, visit.inputs[0]) if isinstance(step, GroupNormalise) else None
    return None if other is None else step.handed(g, *other)  # type: ignore[attr-defined]


def _with_deviation_of_other_groups(visit: Visit) -> Array | None:
    """Return ∂L/∂z divided by the deviation of another group: the groups are in reverse order."""
    step, x = visit.step, visit.inputs[0]
    if not isinstance(step, GroupNormalise) or step.groups == 1:
        return None
    deviation = np.broadcast_to(step.deviation(x), x.shape)
    blocks = np.split(deviation, step.groups, axis=1)
    return step.handed(visit.upstream, visit.output, np.concatenate(blocks[::-1], axis=1))


def _gamma_of_other_groups(visit: Visit, unknown: float) -> Handed | None:
    below = norm_below(visit)
    if below is None or not isinstance(below.step, GroupNormalise):
        return None
    other = _of_other_groups(below.step, below.inputs[0])
    if other is None:
        return None
    shares, gradients = visit.right
    _, wrong = visit.step.vjp(visit.p, (other[0],), visit.output, visit.upstream)
    gamma = next(iter(visit.step.shapes))
    return shares, {**gradients, gamma: wrong[gamma]}


_OF_ANOTHER = "group norm: statistics of another group"
_WORDS = "group normalisation's"

_OTHERS = (
    "first = np.arange(4) % GROUPS * 2\n"  # a channel of the group that each channel takes
    "other = (x - mean(x)[:, first]) / deviation[:, first]\n"
)

_GROUPS = (
    Variant(
        Wrong(
            _OF_ANOTHER,
            GROUP_NORM_FAMILY,
            "in {where}, γ's gradient uses the mean and the variance of another group: channel % groups, not "
            "channel // (channels / groups)",
            "∂L/∂γ = Σ ∂L/∂y ẑ, ẑ with the statistics of another group",
            "∂L/∂γ = Σ ∂L/∂y ẑ",
            "∂L/∂γ",
            code=f"{_OTHERS}dL_dgamma = (dL_dy * other).sum(axis=over)",
        ),
        Scale,
        _gamma_of_other_groups,
    ),
    variant(
        Normalise,
        _OF_ANOTHER,
        GROUP_NORM_FAMILY,
        share(_with_other_statistics),
        f"{_WORDS} backward pass takes a channel's mean and variance from another group",
        "δ = (g − mean g − ẑ mean(g ẑ)) / √(var of another group + eps)",
        RIGHT_DELTA,
        f"{_OTHERS}dL_dx = (g - mean(g) - other * mean(g * other)) / deviation[:, first]",
    ),
    variant(
        Normalise,
        _OF_ANOTHER,
        GROUP_NORM_FAMILY,
        share(_with_deviation_of_other_groups),
        f"{_WORDS} backward pass divides by the deviation of another group: the groups are in reverse order",
        "δ = (g − mean g − ẑ mean(g ẑ)) / √(var of another group + eps)",
        RIGHT_DELTA,
    ),
    variant(
        Normalise,
        _OF_ANOTHER,
        GROUP_NORM_FAMILY,
        _with_mean(NORMS[2], _over_next_channels),
        f"{_WORDS} backward pass groups channels by channel % groups, not by blocks",
        "δ = (g − mean g − ẑ mean(g ẑ)) / √(…), means over other channels",
        RIGHT_DELTA,
    ),
)


# --- the unbiased variance ---------------------------------------------------------------------------------


def _biased(visit: Visit) -> Array | None:
    step = step_of(visit)
    if not step.unbiased:
        return None
    return replace(step, unbiased=False).handed(visit.upstream, visit.output, step.deviation(visit.inputs[0]))


_BIASED = variant(
    Normalise,
    "batch norm: biased variance",
    NORM,
    share(_biased),
    "batch normalisation's backward pass divides the term from the variance by N, not by N − 1",
    "δ = (g − mean g − ẑ Σ(g ẑ) / N) / √(…)",
    "δ = (g − mean g − ẑ Σ(g ẑ) / (N − 1)) / √(…)",
    "delta_h = (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation",
)


NORM_VARIANTS: tuple[Variant, ...] = (
    *(variant for norm in NORMS for variant in (*_of_chains(norm), *_over_wrong_axes(norm))),
    *_GROUPS,
    _BIASED,
)
