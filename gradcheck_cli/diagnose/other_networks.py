"""Networks that the author may have meant: the spec's network with one or two changes.

A spec is copied from code by hand, and a slip in the spec makes correct gradients look wrong. So the
gradients of the changed networks are computed, too. If all gradients of a changed network match the author's,
the spec is wrong and the author's backprop is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import sqrt
from typing import get_args

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Cause
from gradcheck_cli.diagnose.families import ANOTHER_NETWORK
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.output_bias import OutputBias
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.site import penalty_on, penalty_terms
from gradcheck_cli.diagnose.subsets import as_sentence, listed
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.losses import LOSSES, Reduction, coefficient, same_loss
from gradcheck_cli.network.network import Activity, Network, backprop, forward, sample_losses
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array

KIND = ANOTHER_NETWORK.name
"""The name of this kind of mistake and of its family. The mistake is in the spec, not in backprop."""

OTHER_NETWORK = Wrong(
    KIND,
    ANOTHER_NETWORK,
    "the gradients belong to a different network from the one in the spec",
    "",
    "",
    code="deviation = np.sqrt(z_h.var(axis=0) + 1e-5)",
)


@dataclass(frozen=True)
class OtherNetwork:
    """The spec's network with one or two changes.

    problem: the changed network with its data.
    has: the change, in words.
    says: the corresponding setting in the spec, in words.
    layers: the layers that differ, from the output down.
    factors: factors on the gradients, by parameter name. If a parameter in `problem` is scaled, its factor
        turns the gradient into the gradient of the unscaled parameter.
    """

    problem: Problem
    has: str
    says: str
    layers: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        return float(self.problem.objective.total)

    def gradients(self) -> Iterator[tuple[str, Array]]:
        """Yield the name and the gradient of each parameter, computed lazily, from the output layer down."""
        problem = self.problem
        for step in backprop(problem.network, problem.parameters, problem.x, problem.target):
            for name, value in step.gradients.items():
                yield name, self.factors.get(name, 1.0) * (matrix(value) + penalty_on(problem, name))

    def with_loss_of(self, second: OtherNetwork) -> OtherNetwork:
        """Return this network with the loss of `second`. The new description names both changes."""
        has, says = (f"{a} and {b}" for a, b in ((self.has, second.has), (self.says, second.says)))
        of = second.problem.network
        network = replace(self.problem.network, loss=of.loss, coefficient=of.coefficient)
        return replace(self, problem=replace(self.problem, network=network), has=has, says=says)

    def told(self, what: str, described: str) -> str:
        """Return a sentence that says that the gradients, for example, are those of this network.

        what: the words for the gradients, or for whatever else belongs to this network.
        described: the words for the place that describes the original network, such as the spec.
        """
        return f"{what} of a network {self.has}; {described} says {self.says}"


# --- which network it is -----------------------------------------------------------------------------------


def explain_gradients(
    problem: Problem, targets: Mapping[str, Target], loss: float | None, eps: float
) -> list[Answer]:
    """Return an answer for each changed network that has this loss and, up to rounding, these gradients.

    The losses are compared only if the author's loss is known. If no single change explains the gradients,
    each change of the forward pass is combined with each change of the loss.
    """
    changes = OF_FORWARD_PASS if loss is None else (*OF_FORWARD_PASS, *OF_LOSS)

    def same(other: OtherNetwork) -> bool:
        return _matches(other, targets) and (loss is None or same_loss(other.loss, loss, eps))

    alone = [_answer(other, targets) for other in other_networks(problem, changes) if same(other)]
    if alone:
        return alone
    pairs = _pairs_of_this_bias(problem, targets) if loss is None else _pairs_of_this_loss(problem, loss, eps)
    return [_answer(other, targets) for other in pairs if same(other)]


def _answer(other: OtherNetwork, targets: Mapping[str, Target]) -> Answer:
    told = as_sentence(other.told("the gradients are those", "the spec"))
    cause = Cause(KIND, KIND, other.layers, told, "", "")
    return Answer((cause,), max(targets[name].apart(g) for name, g in other.gradients() if name in targets))


def _matches(other: OtherNetwork, targets: Mapping[str, Target]) -> bool:
    return all(targets[name].matches(g) for name, g in other.gradients() if name in targets)


def with_this_loss(
    problem: Problem, comparisons: Sequence[Comparison], loss: float, eps: float
) -> OtherNetwork | None:
    """Return the first changed network that has this loss and agrees with the finite differences.

    Returns None if there is no such network.
    """
    by_name = {c.name: c for c in comparisons}
    alone = other_networks(problem, (*OF_FORWARD_PASS, *OF_LOSS))
    for other in chain(alone, _pairs_of_this_loss(problem, loss, eps)):
        if same_loss(other.loss, loss, eps) and are_measured(other.gradients(), by_name):
            return other
    return None


def are_measured(gradients: Iterable[tuple[str, Array]], comparisons: Mapping[str, Comparison]) -> bool:
    """Return whether these gradients agree with the finite differences, up to tolerances and error bars."""
    return not any(_is_off(g, comparisons[name]) for name, g in gradients if name in comparisons)


def _is_off(gradient: Array, c: Comparison) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(gradient - c.numerical) > c.tolerance + c.bar).any())


# --- two changes at once -----------------------------------------------------------------------------------


def _pairs(problem: Problem, fits: Callable[[Problem, Activity], bool]) -> Iterator[OtherNetwork]:
    """Yield networks that differ from the spec's in two ways: once in the forward pass and once in the loss.

    Each forward pass and each loss is computed only once.

    fits: a cheap test that such a network must pass. The test takes a problem with the changed loss, and the
        changed forward pass.
    """
    losses = list(_losses(problem))
    for other in other_networks(problem, OF_FORWARD_PASS):
        activity = forward(other.problem.network, other.problem.parameters, other.problem.x)
        for second in losses:
            if fits(second.problem, activity):
                yield other.with_loss_of(second)


def _pairs_of_this_loss(problem: Problem, loss: float, eps: float) -> Iterator[OtherNetwork]:
    """Yield the networks that have this loss after a change in the forward pass and one in the loss."""

    def fits(of: Problem, activity: Activity) -> bool:
        data = float(sample_losses(of.network, activity.output, of.target).sum())
        return same_loss(data + penalty, loss, eps)

    penalty = _penalty(problem)
    return _pairs(problem, fits)


def _penalty(problem: Problem) -> float:
    """Return the sum of all penalty terms in the loss."""
    data = sample_losses(problem.network, problem.objective.activity.output, problem.target).sum()
    return float(problem.objective.total - data)


def _pairs_of_this_bias(problem: Problem, targets: Mapping[str, Target]) -> Iterator[OtherNetwork]:
    """Yield the networks with two changes that reproduce the gradient of the output layer's bias or β."""
    output = problem.network.output
    target = targets.get(output.bias if output.batch_norm is None else output.beta)
    bias = OutputBias()

    def fits(of: Problem, activity: Activity) -> bool:
        return target is not None and target.matches(bias.gradient(of, activity) + penalty)

    penalty = sum(penalty_terms(problem, target.name).values(), np.zeros(output.units)) if target else 0.0
    return _pairs(problem, fits) if target is not None else iter(())


# --- the networks ------------------------------------------------------------------------------------------


_Change = Callable[[Problem], Iterator[OtherNetwork]]


def other_networks(problem: Problem, changes: Iterable[_Change]) -> Iterator[OtherNetwork]:
    """Yield the changed networks whose loss is finite."""
    for other in chain.from_iterable(change(problem) for change in changes):
        if np.isfinite(other.loss):
            yield other


def _with_layers(problem: Problem, changed: Mapping[str, Layer]) -> Problem:
    network = problem.network
    layers = tuple(changed.get(layer.name, layer) for layer in network.layers)
    return replace(problem, network=network.with_layers(layers))


_VARIANTS: tuple[tuple[str, Mapping[str, float | str]], ...] = (
    *(("leaky_relu", {"negative_slope": slope}) for slope in (0.1, 0.2, 0.3, 1.0 / 3.0, 5.5)),
    *(("elu", {"alpha": alpha}) for alpha in (0.1, 0.5, 2.0)),
    ("gelu", {"approximate": "tanh"}),
)
"""Activations with common options that are not the defaults in the table."""


def _activations(problem: Problem) -> Iterator[OtherNetwork]:
    """Yield networks with a different activation in one layer, or in all layers that share an activation."""
    for layers in _of_one_activation(problem.network):
        says = f"{layers[0].activation.name}{_its_options(layers[0])}"
        where = f"layer{'s' if len(layers) > 1 else ''} {listed([layer.name for layer in layers])}"
        for name, options in (*((name, {}) for name in ACTIVATIONS), *_VARIANTS):
            activation = ACTIVATIONS[name].with_options(**options)
            if not _is_same(layers[0], name, activation):
                changed = {layer.name: replace(layer, activation=activation) for layer in layers}
                has = f"whose {where} {'have' if len(layers) > 1 else 'has'} {name}{_of(options)}"
                yield OtherNetwork(_with_layers(problem, changed), has, says, tuple(changed)[::-1])


def _of_one_activation(network: Network) -> Iterator[tuple[Layer, ...]]:
    """Yield each layer alone, then all layers that share an activation, with and without the last layer."""
    yield from ((layer,) for layer in network.layers)
    together: dict[tuple[str, ...], tuple[Layer, ...]] = {}
    for layers in (network.layers, network.layers[:-1]):
        for name in {layer.activation.name for layer in layers}:
            same = tuple(layer for layer in layers if layer.activation.name == name)
            if len(same) > 1:
                together[tuple(layer.name for layer in same)] = same
    yield from together.values()


_PROBE = np.array([[-3.0, -0.5, 0.25, 2.0]])


def _is_same(layer: Layer, name: str, activation: Activation) -> bool:
    at, its = activation.value(_PROBE), layer.activation.value(_PROBE)
    return layer.activation.name == name and np.allclose(at, its, rtol=1e-12)


def _its_options(layer: Layer) -> str:
    """Return a note if the options of the layer's activation are not the defaults, else an empty string."""
    row = ACTIVATIONS[layer.activation.name].with_options()
    return "" if _is_same(layer, layer.activation.name, row) else " with other options"


def _of(options: Mapping[str, float | str]) -> str:
    return "".join(
        f" with {name} {value:.6g}" if isinstance(value, float) else f" with {name} {value}"
        for name, value in options.items()
    )


def _normalised(problem: Problem) -> list[Layer]:
    return [layer for layer in problem.network.layers if layer.batch_norm is not None]


def _unbiased_variances(problem: Problem) -> Iterator[OtherNetwork]:
    """Yield the network whose batch norm divides by N − 1, not N, to compute the variance of N samples.

    That network equals the spec's network with γ multiplied by √((N − 1) / N) and eps multiplied by
    (N − 1) / N.
    """
    layers, samples = _normalised(problem), len(problem.x)
    if not layers or samples < 2:
        return
    ratio = (samples - 1) / samples
    changed = {layer.name: replace(layer, batch_norm=(layer.batch_norm or 0.0) * ratio) for layer in layers}
    factors = {layer.gamma: sqrt(ratio) for layer in layers}
    parameters = {name: factors.get(name, 1.0) * value for name, value in problem.parameters.items()}
    has = "whose batch norm divides the variance by N − 1, as torch.var does"
    other = _with_layers(replace(problem, parameters=parameters), changed)
    yield OtherNetwork(other, has, "batch_norm, which divides by N", tuple(changed)[::-1], factors)


_EPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 0.0)
"""Common values of a batch normalisation's eps."""


def _eps_of_norms(problem: Problem) -> Iterator[OtherNetwork]:
    layers = _normalised(problem)
    if not layers:
        return
    says = listed(list(dict.fromkeys(f"{layer.batch_norm:g}" for layer in layers)))
    for eps in _EPS:
        changed = {layer.name: replace(layer, batch_norm=eps) for layer in layers}
        if any(layer.batch_norm != eps for layer in layers):
            names = tuple(changed)[::-1]
            yield OtherNetwork(
                _with_layers(problem, changed), f"whose batch norm has eps {eps:g}", says, names
            )


def _losses(problem: Problem) -> Iterator[OtherNetwork]:
    """Yield networks with a different loss, a different reduction, or a different factor on the loss."""
    own, outputs, weight = problem.network.loss, problem.network.outputs, _weight(problem)
    own_scale = problem.network.coefficient / coefficient(own, problem.reduction, 1.0, outputs, weight)
    says = _loss_text(own.name, problem.reduction, own_scale)
    for name, reduction, scale in _choices(problem, own.name, own_scale):
        loss = own if name == own.name else LOSSES[name].with_options().like(own)
        by = coefficient(loss, reduction, scale, outputs, weight)
        network = replace(problem.network, loss=loss, coefficient=by)
        has = f"whose loss is {_loss_text(name, reduction, scale)}"
        if name != own.name or not np.isclose(by, problem.network.coefficient):
            yield OtherNetwork(replace(problem, network=network), has, says)


def _choices(problem: Problem, own: str, scale: float) -> Iterator[tuple[str, Reduction, float]]:
    reduction, reductions = problem.reduction, get_args(Reduction)
    yield from ((own, other, scale) for other in reductions if other != reduction)
    yield from ((own, reduction, other) for other in (0.5, 1.0, 2.0) if not np.isclose(other, scale))
    scales = dict.fromkeys((scale, 1.0, 0.5))
    yield from ((row.name, reduction, by) for row in _comparable(problem.network.loss) for by in scales)


def _comparable(own: Loss) -> Iterator[Loss]:
    """Yield all other losses in the table that compare each output with a target."""
    rows = [row for row in LOSSES.values() if not (own.has_weights and row.of_weighted_target)]
    for row in rows:
        if row.name != own.name and not row.vectors and not own.vectors and not _is_same_loss(row, own):
            yield row


def _is_same_loss(row: Loss, own: Loss) -> bool:
    """Return whether two losses are one function under different names, as huber and smooth_l1 may be."""
    if own.by_column:
        return False
    a, target = _PROBE, np.array([[0.0, 0.0, 1.0, 0.0]])
    of_own = np.array([[0.0, 0.0, 1.0, 0.0, 1.0]]) if own.has_weights else target
    return np.allclose(row.with_options().value(a, target), own.value(a, of_own), rtol=1e-12)


def _weight(problem: Problem) -> float:
    """Return the total weight of the samples, which is the divisor in the loss's coefficient."""
    of_labels = problem.y.ndim < problem.plain_target.ndim and problem.network.loss.of_target
    if not of_labels:
        return float(problem.plain_target[..., 0].size)
    return float((problem.plain_target * _class_weights(problem)).sum())


def _class_weights(problem: Problem) -> Array | float:
    return 1.0 if problem.class_weight is None else problem.class_weight


def _loss_text(name: str, reduction: Reduction, scale: float) -> str:
    return f"{name} ({reduction})" + ("" if np.isclose(scale, 1.0) else f" times {scale:.6g}")


def _smoothings(problem: Problem) -> Iterator[OtherNetwork]:
    if "label_smoothing" not in problem.network.loss.of_target:
        return
    own, outputs = problem.label_smoothing, problem.network.output.units
    weight = _class_weights(problem) * problem.plain_target.any(axis=-1, keepdims=True)  # 0 if ignored
    for by in (0.0, 0.05, 0.1, 0.2):
        if by != own:
            target = weight * ((1.0 - by) * problem.plain_target + by / outputs)
            changed = replace(problem, target=target, label_smoothing=by)
            yield OtherNetwork(changed, f"with label_smoothing {by:g}", f"{own:g}")


def _penalties(problem: Problem) -> Iterator[OtherNetwork]:
    network = problem.network
    if not network.penalties:
        return
    says = listed([f"{name} {strength:g}" for name, strength in network.penalties.items()])
    yield OtherNetwork(replace(problem, network=replace(network, penalties={})), "without a penalty", says)
    on_biases = not network.penalize_biases
    has = f"whose penalty {'applies' if on_biases else 'does not apply'} to biases"
    other = replace(network, penalize_biases=on_biases)
    yield OtherNetwork(replace(problem, network=other), has, f"biases: {str(not on_biases).lower()}")


OF_FORWARD_PASS: tuple[_Change, ...] = (_activations, _unbiased_variances, _eps_of_norms)

OF_LOSS: tuple[_Change, ...] = (_losses, _smoothings, _penalties)
"""The changes of the loss. If the author's loss is unknown, such a change looks like a mistake in ∂L/∂a."""
