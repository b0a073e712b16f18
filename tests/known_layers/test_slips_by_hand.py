"""Slips in layers by hand get the name of the mistake, and random changes get no false name."""

from __future__ import annotations

import sys

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # after the tests, since some module names are the same

from layer_slips import checked, source_of
from slips.slips import SLIPS

KINDS = {
    ("layernorm", "wrong axis"): "layer norm: over the wrong axis",
    ("layernorm", "sign of the variance term"): "layer norm: sign of a term",
    ("conv", "= for += in dw"): "windows overwritten",
    ("conv", "last column left out"): "returned inside the loop",
    ("max_pool", "= for +="): "windows overwritten",
    ("attention", "mean for sum"): "softmax's sum averaged",
    ("attention", "dv not transposed"): "factor not transposed",
    ("lstm_step", "f for i"): "another gate",
    ("lstm", "dh not carried"): "gradient not carried back",
    ("lstm_step", "gates in another order"): "gates in another order",
    ("joint_lstm", "gates in another order"): "gates in another order",
    ("joint_lstm", "= for += in dw"): "shared parameter used once",
    ("joint_lstm", "dh not carried"): "gradient not carried back",
    ("joint_lstm", "first step left out"): "returned inside the loop",
    ("joint_lstm", "columns of dx"): "joined values cut in another order",
    ("lstm_step", "recurrent weight with c"): "cell state in place of the hidden state",
    ("conv", "db over samples and the first row"): "bias not summed",
    ("conv", "channels of w in the wrong order"): "channels in another order",
    ("groupnorm", "groups swapped"): "group norm: statistics of another group",
    ("swiglu", "branches swapped"): "weight of another product",
    ("self_attention", "dwo with the input"): "input of another product",
    ("self_attention", "heads in the wrong order"): "heads in another order",
    ("self_attention", "dx without the keys"): "branch forgotten",
    ("self_attention", "heads not transposed"): "axes not permuted back",
}

UNNAMED = {
    "layernorm": ("m2 = (dxhat * xhat)", "m2 = (dxhat + xhat)"),
    "conv": ("dw += np.multiply", "dw += 0.5 * k * np.multiply"),
    "lstm_step": ("dc * i * (1 - g**2)", "dc * i * (1 - g**3)"),
    "attention": ("dq = dscores @ k", "dq = dscores**2 @ k"),
    "joint_lstm": ("dc * i * (1 - g**2)", "dc * i * (1 - g**3)"),
    "self_attention": ("dk @ wk.T", "dk**3 @ wk.T"),
}
"""Changes in a statement that no table holds."""


def named(layer, right, wrong):
    source = source_of(layer)
    assert right in source
    diagnosis = checked(layer, source.replace(right, wrong), seed=2).diagnosis
    return [cause.kind for answer in diagnosis.answers for cause in answer.causes]


@pytest.mark.parametrize(("layer", "slip"), KINDS)
def test_a_slip_is_named(layer, slip):
    right, wrong = next((right, wrong) for name, right, wrong in SLIPS[layer] if name == slip)
    assert KINDS[layer, slip] in named(layer, right, wrong)


@pytest.mark.parametrize("layer", UNNAMED)
def test_a_change_that_no_table_holds_gets_no_name(layer):
    assert named(layer, *UNNAMED[layer]) == []


def test_gradients_of_0_are_called_0_and_no_value_is_said_to_be_lost():
    assert named("joint_lstm", "dh[:, s] + dprev_h", "dprev_h") == ["gradient zero"]


def test_a_state_of_the_next_step_is_not_called_the_input_of_another_product():
    assert named("rnn", "states[:, t - 1] if t else h0", "states[:, t - 1] if t else prev") == []
