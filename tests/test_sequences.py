"""Checks of recurrent layers, attention, gated layers and tied weights, starting from the spec."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from build import right_gradients, spec_of
from spoilt import assert_an_error_in_any_tensor_is_wrong

from gradcheck_cli.checker import check
from gradcheck_cli.errors import InputError
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.subject.network import network_subject
from gradcheck_cli.verdict import Verdict

TIED = [
    {"embedding": 5, "embedding_dim": 4},
    {"residual": ["layer_norm", {"attention": 2, "causal": True}]},
    {"units": 4, "activation": "tanh"},
    {"units": 5, "weight": "embedding1"},
]
PADDING = [[0, 0, 0], [0, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
STATES = [[[0.1, 0.5], [-0.4, 0.2], [0.3, -0.3], [0.9, 0.0], [-0.6, 0.7]]]
NETWORKS = {
    "rnn": ([{"rnn": 2, "num_layers": 2}, {"units": 3}], [2, 2]),
    "lstm": ([{"lstm": 2, "bidirectional": True}, {"units": 3}], [2, 2]),
    "gru": ([{"gru": 2}, {"units": 3}], [3, 2]),
    "a transformer with a tied output": (TIED, 3),
    "grouped attention": ([{"attention": 2, "kv_heads": 1, "bias": False}, {"units": 3}], [3, 4]),
    "rotated attention with padding": (
        [{"attention": 2, "rotary": True, "key_padding_mask": PADDING, "out_proj": False}, {"units": 3}],
        [3, 4],
    ),
    "initial states": (
        [{"lstm": 2, "h0": "parameter", "c0": STATES}, {"gru": 2, "h0": [[0.3, -0.2]]}, {"units": 3}],
        [2, 2],
    ),
    "swiglu": ([{"residual": [{"swiglu": 3, "bias": False}]}, {"units": 3}], [3, 2]),
    "geglu": ([{"geglu": 3}, {"units": 3}], [4]),
}


def spec(name, seed=0, **rest):
    layers, inputs = NETWORKS[name]
    return spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=5, seed=seed, **rest)


def undecided(report):
    """Return the share of entries that the check leaves open."""
    return report.unresolved / sum(c.entries for c in report.comparisons)


@pytest.mark.parametrize("differences", ["units", "literal"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_right_gradients_agree(name, seed, differences):
    report = check(spec(name, seed, check={"differences": differences}))
    assert report.verdict is Verdict.AGREES
    assert {c.name for c in report.comparisons} == set(build_problem(spec(name, seed)).network.shapes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NETWORKS)
def test_right_gradients_in_float32_are_not_wrong(name, seed):
    report = check(spec(name, seed, dtype="float32"))
    assert report.verdict is not Verdict.WRONG
    assert undecided(report) < 0.2


@pytest.mark.parametrize("name", NETWORKS)
def test_the_complex_step_agrees(name):
    assert check(spec(name, 1, check={"scheme": "complex"})).verdict is Verdict.AGREES


@pytest.mark.parametrize("name", NETWORKS)
def test_a_mistake_in_any_tensor_is_wrong(name):
    assert_an_error_in_any_tensor_is_wrong(spec(name))


def test_a_tied_weight_that_lacks_the_share_of_the_output_is_wrong():
    """The gradient of the embedding alone is wrong where both layers share a weight."""
    tied = spec("a transformer with a tied output")
    problem = build_problem(tied)
    weight = problem.parameters["embedding1.weight"]
    free = [*TIED[:-1], {"units": 5}]
    apart = build_problem(spec_of(*free, inputs=3, loss="cross_entropy", samples=5))
    values = {**problem.parameters, "output.weight": weight}
    share = right_gradients(replace(apart, parameters=values, x=problem.x, target=problem.target))
    right = right_gradients(problem)
    whole = share["embedding1.weight"] + share["output.weight"]
    np.testing.assert_allclose(right["embedding1.weight"], whole, rtol=1e-12)
    subject = network_subject(tied, problem)
    values = {**right, "embedding1.weight": share["embedding1.weight"]}
    report = replace(subject, analytic=replace(subject.analytic, values=values)).check(tied.check)
    assert report.verdict is Verdict.WRONG


def test_parameters_have_the_names_of_torch():
    def names(*layers, inputs):
        problem = build_problem(spec_of(*layers, inputs=inputs, loss="cross_entropy"))
        return set(problem.network.shapes) - {"output.weight", "output.bias"}

    head = {"units": 2}
    assert names({"gru": 2}, head, inputs=[3, 2]) == {
        f"gru1.{kind}_{of}_l0" for kind in ("weight", "bias") for of in ("ih", "hh")
    }
    assert names({"attention": 1, "name": "mix"}, head, inputs=[3, 2]) == {
        "mix.in_proj_weight",
        "mix.in_proj_bias",
        "mix.out_proj.weight",
        "mix.out_proj.bias",
    }
    assert names({"swiglu": 2, "bias": False}, head, inputs=2) == {
        f"swiglu1.{name}_proj.weight" for name in ("gate", "up", "down")
    }


EMBEDDED = {"embedding": 5, "embedding_dim": 4}


@pytest.mark.parametrize(
    ("layers", "inputs", "message", "place"),
    [
        ([{"lstm": 3}], 4, r"needs samples of shape \[steps, features\], but gets .* \[4\]", (0, "lstm")),
        ([{"rnn": 3, "num_layers": 2}], [501, 2], "1,002 time steps in all; at most 1,000", (0, "rnn")),
        ([{"attention": 2}], 4, r"needs samples of shape \[tokens, width\]", (0, "attention")),
        ([{"attention": 3}], [2, 4], "the width 4 cannot be split evenly into 3 heads", (0, "attention")),
        (
            [{"attention": 4, "kv_heads": 3}],
            [2, 4],
            "4 heads cannot be shared out evenly among 3",
            (0, "kv_heads"),
        ),
        ([{"attention": 1}], [20_000, 1], "1 × 20,000 × 20,000 attention scores", (0, "attention")),
        ([{"swiglu": 3}], [1, 4, 4], "gets samples of 1 × 4 × 4 numbers", (0, "swiglu")),
        (
            [EMBEDDED, {"units": 5, "weight": "hidden7"}],
            3,
            "no layer below has a weight named",
            (1, "weight"),
        ),
        (
            [EMBEDDED, {"units": 6, "weight": "embedding1"}],
            3,
            r"shape \[5, 4\].*needs \[6, 4\]",
            (1, "weight"),
        ),
        ([{"units": 4, "weight": "output"}], 4, "no layer below has a weight named", (0, "weight")),
    ],
)
def test_layers_that_do_not_fit_are_refused_where_they_are(layers, inputs, message, place):
    with pytest.raises(InputError, match=message) as caught:
        build_problem(spec_of(*layers, inputs=inputs))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("network", "layers", *place)
    assert complaint.help
