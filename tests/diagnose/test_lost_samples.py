"""The search finds which samples count, in networks with batch normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diagnose.networks import NETWORKS, penalty, problem, right, sentence_of, why
from mistakes import Backprop

from gradcheck_cli.diagnose.rows import in_rows
from gradcheck_cli.diagnose.subsets import listed
from gradcheck_cli.network.network import backprop


def of_samples(some: tuple[int, ...], count: int) -> np.ndarray:
    return np.isin(np.arange(count), some)[:, None]


@pytest.mark.parametrize("outputs_normed", [False, True])
@pytest.mark.parametrize("some", [(2, 3, 7, 11), (0, 1, 2, 5, 6, 8, 9, 10, 13), (4,)])
def test_which_samples_the_loss_of_a_batch_normed_network_counts_is_solved_for(outputs_normed, some):
    of = problem("tanh", "sigmoid", "identity", samples=14, batch_norm=True, outputs=2)
    if outputs_normed:
        of = problem("tanh", "tanh", samples=14, batch_norm=True, outputs=4)
        output = replace(of.network.output, batch_norm=1e-5)
        network = of.network.with_layers((*of.network.layers[:-1], output))
        normed = {"output.gamma": np.linspace(0.7, 1.3, 4), "output.beta": np.linspace(-0.2, 0.2, 4)}
        of = replace(of, network=network, parameters={**of.parameters, **normed})
    kept = of_samples(some, 14)
    wrong = Backprop(loss_gradient=lambda p, a: kept * p.network.loss.gradient(a, p.target))(of)
    (cause,) = why(of, wrong).answers[0].causes
    assert cause.kind == "batch subset"
    assert listed([str(n) for n in some]) in cause.sentence


@pytest.mark.parametrize("name", ["hidden2.gamma", "hidden1.beta"])
def test_which_samples_count_in_the_gradient_of_gamma_or_beta_is_solved_for(name):
    of = problem("tanh", "sigmoid", "identity", samples=9, batch_norm=True, units=10)
    layer, kind = name.split(".")
    (factors,) = (
        each for each in backprop(of.network, of.parameters, of.x, of.target) if each.layer.name == layer
    )
    i = [each.name for each in of.network.layers].index(layer)
    z_hat = in_rows(of).normalised[i]
    terms = factors.dL_dy * (z_hat.value if kind == "gamma" else 1.0)
    found = right(of) | {name: (of_samples((1, 4, 8), 9) * terms).sum(axis=0)}
    assert sentence_of(of, found) == f"The gradient of {name} is summed over samples 1, 4 and 8 only."


@pytest.mark.parametrize(
    ("of_l2", "of_l1", "told"),
    [
        (np.sign, np.abs, "the l2 penalty adds λ sign(w), and the l1 penalty adds λ |w|"),
        (np.abs, lambda w: w, "the l2 penalty adds λ |w|, and the l1 penalty adds λ w"),
    ],
)
def test_both_penalties_with_another_derivative_are_one_mistake(of_l2, of_l1, told):
    of = NETWORKS["tanh, cross-entropy"]
    l2, l1 = (of.network.penalties[name] for name in ("l2", "l1"))
    found = right(of)
    for name in (layer.weight for layer in of.network.layers):
        w = of.parameters[name]
        found[name] = found[name] - penalty(of, name) + l2 * of_l2(w) + l1 * of_l1(w)
    (cause,) = why(of, found).answers[0].causes
    assert (cause.kind, cause.sentence) == ("penalty of the other kind", f"{told[0].upper()}{told[1:]}.")
