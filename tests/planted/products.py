"""Mistakes in the products and sums of a layer, and tensors of another layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from by_hand import (
    Array,
    Case,
    Pass,
)
from planted import activations, batch_norm
from planted.plant import Formula, Parts, Plant, Rng


def _along_the_wrong_axis(p: Pass, i: int, rng: Rng) -> Array | None:
    """Sum δ over the wrong axis to shape (N,), which fits only if there are as many samples as units."""
    delta = p.delta[i]
    return delta.sum(axis=1) if delta.shape[0] == delta.shape[1] else None


def _updated_first(with_penalty: bool) -> Formula:
    def below(p: Pass, i: int, rng: Rng) -> Array | None:
        if i == 0:
            return None
        name, rate = p.layers[i].weight, float(10 ** rng.uniform(-3, 0))
        gradient = p.gradient(name) if with_penalty else p.data_gradient(name)
        return p.delta[i] @ (p.w(i) - rate * gradient)

    return below


def _square(p: Pass, i: int) -> bool:
    out, inputs = p.w(i).shape
    return out == inputs > 1


def _transposed_product(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if _square(p, i) else (p.a_h[i].T @ p.delta[i]).reshape(p.w(i).shape)


def square_transposed_product(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.a_h[i].T @ p.delta[i] if _square(p, i) else None


def _transposed_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i] @ p.w(i).T if _square(p, i) and i else None


def _rolled(shift: Callable[[Pass, Rng], int]) -> Formula:
    return lambda p, i, rng: p.delta[i].T @ np.roll(p.a_h[i], shift(p, rng), axis=0)


def _reversed(p: Pass, i: int, rng: Rng) -> Array:
    return p.delta[i][::-1].T @ p.a_h[i]


def _pre_activation(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i].T @ p.y[i - 1] if i else None


def _another_activation(p: Pass, i: int, rng: Rng) -> Array | None:
    """Use another layer's activation, or the layer's own output, in place of its input."""
    others = [*p.a_h, p.a[-1]]
    fitting = [a for j, a in enumerate(others) if j != i and a.shape == p.a_h[i].shape]
    return p.delta[i].T @ fitting[int(rng.integers(len(fitting)))] if fitting else None


def _other_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    fitting = [p.delta[j] for j in p.delta if j != i and p.delta[j].shape == p.delta[i].shape]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def _product_with_another_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    delta = _other_delta(p, i, rng)
    return None if delta is None else delta.T @ p.a_h[i]


def _sum_of_another_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    delta = _other_delta(p, i, rng)
    return None if delta is None else delta.sum(axis=0)


def _product_before_the_activation(p: Pass, i: int, rng: Rng) -> Array:
    return p.dL_da[i].T @ p.a_h[i]


def _sum_before_the_activation(p: Pass, i: int, rng: Rng) -> Array:
    return p.dL_da[i].sum(axis=0)


def _outer(delta: Callable[[Array], Array], inputs: Callable[[Array], Array]) -> Formula:
    """Sum or average over the batch before taking the outer product."""
    return lambda p, i, rng: np.outer(delta(p.delta[i]), inputs(p.a_h[i]))


def _total(values: Array) -> Array:
    return values.sum(axis=0)


def _mean(values: Array) -> Array:
    return values.mean(axis=0)


def _summed_with_its_input(p: Pass, i: int, rng: Rng) -> Array:
    return (p.delta[i].T @ p.a_h[i]).sum(axis=1)


def _the_bias_itself(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return the bias in place of its gradient, unless it is 0."""
    bias = p.parameters[p.layers[i].bias]
    return bias if bias.any() else None


def _summed_over_units(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return δ summed over the units, unless the sum is 0, as below a softmax."""
    total, size = p.delta[i].sum(axis=1), np.abs(p.delta[i]).sum(axis=1)
    cancels = (np.abs(total) <= 1e-12 * size).all()
    return None if cancels else np.tile(total[:, None], (1, p.w(i).shape[1]))


def _without_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i] if _square(p, i) else None


def _through_other_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    others = [p.w(j) for j in range(len(p.layers)) if j != i and p.w(j).shape == p.w(i).shape]
    return p.delta[i] @ others[int(rng.integers(len(others)))] if others and i else None


def of_samples(counted: Callable[[int, Rng], Array | None]) -> Formula:
    """Take the weight product over these samples only."""

    def weight(p: Pass, i: int, rng: Rng) -> Array | None:
        mask = counted(len(p.x), rng)
        return None if mask is None else (p.delta[i] * mask[:, None]).T @ p.a_h[i]

    return weight


def all_but_last(n: int, rng: Rng) -> Array:
    return np.append(np.ones(n - 1), 0.0)


def all_but_first(n: int, rng: Rng) -> Array:
    return np.append(0.0, np.ones(n - 1))


def first_few(n: int, rng: Rng) -> Array | None:
    return None if n < 4 else (np.arange(n) < rng.integers(1, n - 1)).astype(float)


def any_few(n: int, rng: Rng) -> Array | None:
    """Mask out at least two samples, and keep at least one."""
    if n < 4:
        return None
    mask = np.zeros(n)
    mask[rng.choice(n, size=int(rng.integers(1, n - 1)), replace=False)] = 1.0
    return mask


LAYERED: Mapping[str, Mapping[str, Parts]] = {
    "activation derivative missing": {"": {"activation": lambda p, i, rng: p.dL_da[i]}},
    "activation derivative at a": {"": {"activation": activations.at_a}},
    "activation derivative at z instead of a": {"": {"activation": activations.z_for_a}},
    "activation derivative at the input": {"": {"activation": activations.at_the_input}},
    "activation derivative without the bias": {"": {"activation": activations.without_the_bias}},
    "activation derivative twice": {"": {"activation": activations.twice}},
    "upstream gradient dropped": {
        "": {"activation": activations.upstream_dropped(averaged=False)},
        "but for c": {"activation": activations.upstream_dropped(averaged=True)},
    },
    "flat spot added": {"": {"activation": activations.flat_spot}},
    "mask of the gradient": {"": {"activation": activations.mask_of_the_gradient}},
    "activation option": {
        "another slope": {"activation": activations.other_leaky_slope},
        "another alpha": {"activation": activations.other_elu_alpha},
        "another alpha, next to a": {"activation": activations.other_alpha_next_to_a},
        "the default": {"activation": activations.default_option},
    },
    "softmax diagonal only": {"": {"activation": activations.softmax_diagonal}},
    "bias averaged": {"": {"bias": lambda p, i, rng: p.delta[i].mean(axis=0)}},
    "bias not summed": {
        "first sample": {"bias": lambda p, i, rng: p.delta[i][0]},
        "last sample": {"bias": lambda p, i, rng: p.delta[i][-1]},
    },
    "bias summed along the wrong axis": {"": {"bias": _along_the_wrong_axis}},
    "bias summed over everything": {
        "": {"bias": lambda p, i, rng: np.full(p.delta[i].shape[1], p.delta[i].sum())}
    },
    "bias gradient summed over the inputs": {"": {"bias": _summed_with_its_input}},
    "outer product of sums": {
        "sum and mean": {"weight": _outer(_total, _mean)},
        "sums": {"weight": _outer(_total, _total)},
        "means": {"weight": _outer(_mean, _mean)},
    },
    "parameters in place of the gradient": {
        "bias": {"bias": _the_bias_itself},
        "weight": {"weight": lambda p, i, rng: p.w(i)},
    },
    "weights left out on the way down": {
        "summed over the units": {"below": _summed_over_units},
        "as they are": {"below": _without_weights},
    },
    "absolute weights on the way down": {"": {"below": lambda p, i, rng: p.delta[i] @ np.abs(p.w(i))}},
    "another layer's weights": {"": {"below": _through_other_weights}},
    "batch norm: mean subtracted twice": {
        "": batch_norm.normed(
            lambda g, z_hat, deviation: (
                (g - 2.0 * g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation
            )
        )
    },
    "batch norm: variance term twice": {
        "": batch_norm.normed(
            lambda g, z_hat, deviation: (
                (g - g.mean(axis=0) - 2.0 * z_hat * (g * z_hat).mean(axis=0)) / deviation
            )
        )
    },
    "batch norm: another eps": {
        "the divisor": {"norm": batch_norm.other_eps(throughout=False)},
        "throughout": {"norm": batch_norm.other_eps(throughout=True)},
    },
    "batch norm: eps outside the root": {"": {"norm": batch_norm.eps_outside}},
    "batch norm: mean term missing": {
        "": batch_norm.normed(lambda g, z_hat, deviation: (g - z_hat * (g * z_hat).mean(axis=0)) / deviation)
    },
    "batch norm: variance term missing": {
        "": batch_norm.normed(lambda g, z_hat, deviation: (g - g.mean(axis=0)) / deviation)
    },
    "batch norm: statistics held constant": {
        "": batch_norm.normed(lambda g, z_hat, deviation: g / deviation)
    },
    "batch norm: unbiased variance": {
        "the divisor": {"norm": batch_norm.unbiased_divisor},
        "throughout": {"norm": batch_norm.unbiased_throughout},
    },
    "batch norm: gamma forgotten": {"": {"norm": batch_norm.gamma_forgotten}},
    "batch norm: divided by the variance": {
        "": batch_norm.normed(lambda g, z_hat, deviation: batch_norm.unnormed(g, z_hat, deviation**2))
    },
    "batch norm: left out": {"": batch_norm.normed(lambda g, z_hat, deviation: g)},
    "batch norm: gamma gradient from z": {"": {"gamma": batch_norm.gamma_of_z}},
    "batch norm: gradient of gamma or beta averaged": {
        "gamma": {"gamma": batch_norm.gamma_averaged},
        "beta": {"beta": batch_norm.beta_averaged},
        "both": {"gamma": batch_norm.gamma_averaged, "beta": batch_norm.beta_averaged},
    },
    "weights updated first": {
        "by the loss's gradient": {"below": _updated_first(with_penalty=False)},
        "by the whole gradient": {"below": _updated_first(with_penalty=True)},
    },
    "transposed product": {"": {"weight": _transposed_product}},
    "transposed weights": {"": {"below": _transposed_weights}},
    "samples out of order": {
        "one on": {"weight": _rolled(lambda p, rng: 1)},
        "one back": {"weight": _rolled(lambda p, rng: -1)},
        "some on": {"weight": _rolled(lambda p, rng: int(rng.integers(1, max(2, len(p.x)))))},
        "reversed": {"weight": _reversed},
    },
    "pre-activation in place of the activation": {"": {"weight": _pre_activation}},
    "another layer's activation": {"": {"weight": _another_activation}},
    "another layer's delta": {
        "weight": {"weight": _product_with_another_delta},
        "bias": {"bias": _sum_of_another_delta},
        "both": {"weight": _product_with_another_delta, "bias": _sum_of_another_delta},
    },
    "delta before the activation": {
        "weight": {"weight": _product_before_the_activation},
        "bias": {"bias": _sum_before_the_activation},
    },
}
ONE_LAYER_ONLY = {"another layer's activation", "another layer's delta", "another layer's weights"}
"""Kinds that are planted in one layer only, because the same draw would pick another mistake elsewhere."""


def layered(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for plant in activations.in_layers(kind, case, rng, LAYERED[kind]):
        if kind not in ONE_LAYER_ONLY or len({edit.at for edit in plant.edits}) == 1:
            yield plant
