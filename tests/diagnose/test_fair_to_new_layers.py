"""Next to layers that are not dense, no right layer is blamed, and no other family if a kind is withheld."""

from __future__ import annotations

import numpy as np
import pytest
from diagnose.alone import why_alone
from diagnose.networks import right, why
from diagnose.test_graphs import GENERAL, spoilt
from diagnose.test_norms_by_hand import GROUP, LAYER, group_norm, layer_norm
from diagnose.test_small_layers_by_hand import POSITIONS, PRELU, prelu
from diagnose.test_windows_by_hand import CONV1D, TRANSPOSED, convolved, transposed
from shares import first

from gradcheck_cli.diagnose.nameable import NAMEABLE
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

LAYERS = [
    {"conv1d": 4, "kernel": 3, "padding": 1, "activation": "tanh", "name": "first"},
    {"group_norm": 2},
    {"prelu": True},
    {"permute": [1, 0]},
    "positional_embedding",
    {"residual": ["layer_norm", {"units": 4, "activation": "tanh", "name": "second"}]},
    "flatten",
    {"units": 2, "name": "third"},
]


def network(seed: int) -> Problem:
    spec = {
        "network": {"inputs": [2, 5], "layers": LAYERS, "loss": "mse"},
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 4, "seed": seed},
    }
    return build_problem(Spec.model_validate(spec))


@pytest.mark.parametrize("seed", first(2, range(6)))
def test_a_layer_that_is_right_is_not_blamed(seed):
    of, rng = network(seed), np.random.default_rng([23, seed])
    exact = right(of)
    layers = sorted({name.rpartition(".")[0] for name in exact})
    wrong = {str(name) for name in rng.choice(layers, size=1 + (rng.random() < 0.3))}
    found = {
        name: spoilt(value, rng) if name.rpartition(".")[0] in wrong else value
        for name, value in exact.items()
    }
    diagnosis = why(of, found)
    causes = [cause for answer in diagnosis.answers for cause in answer.causes]
    named = {layer for cause in causes for layer in cause.where} if causes else set(diagnosis.layers)
    assert named <= wrong, (wrong, diagnosis)
    assert named


UP = POSITIONS.target

WRONG = (
    ("convolution", CONV1D, convolved(CONV1D, step=1)),
    ("convolution", TRANSPOSED, transposed(TRANSPOSED, turned="down")),
    ("group norm", GROUP, group_norm(GROUP, 2, lambda g, h, s, mean: (g - mean(g)) / s)),
    ("group norm", GROUP, group_norm(GROUP, 2, takes=lambda c, groups: c % groups)),
    ("layer norm", LAYER, layer_norm(LAYER, (0,))),
    ("prelu", PRELU, prelu(PRELU, slope=lambda g, x: g * x)),
    ("embedding", POSITIONS, {"positional_embedding1.weight": UP[-1], "input": UP}),
)


@pytest.mark.parametrize(
    ("family", "of", "found"), WRONG, ids=[f"{k}-{n}" for n, (k, *_) in enumerate(WRONG)]
)
def test_a_family_that_is_left_out_is_not_replaced_by_another(family, of, found):
    assert why_alone(of, found).answers[0].causes[0].family == family
    withheld = {row.kind for row in NAMEABLE if row.family.name == family} | GENERAL
    assert why_alone(of, found, without=frozenset(withheld)).answers == ()
