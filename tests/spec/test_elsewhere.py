"""Names from other tools get a hint that says what to type in a spec."""

from __future__ import annotations

import re

import pytest

from gradcheck_cli.errors import InputError
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.spec import elsewhere
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.spec.data import InlineData
from gradcheck_cli.spec.file import read_spec
from gradcheck_cli.spec.layers import KINDS
from gradcheck_cli.spec.layers.batch_norm import BatchNormSpec
from gradcheck_cli.spec.model import keys_of
from gradcheck_cli.spec.network import LossSpec, NetworkSpec
from gradcheck_cli.spec.spec import Spec

TANH = "{units: 5, activation: tanh}"
KNOWN = {
    "loss": set(LOSSES),
    "activation": set(ACTIVATIONS),
    "layer": set(KINDS),
}


def complaints(folder, layer=TANH, loss="mse", more=""):
    """Return each complaint about a spec as its message and its hint."""
    path = folder / "net.yaml"
    path.write_text(
        f"network:\n  inputs: 4\n  layers:\n  - {layer}\n  - {{units: 3}}\n  loss: {loss}\n"
        f"data: {{synthetic: normal, samples: 6}}\n{more}\n"
    )
    with pytest.raises(InputError) as raised:
        read_spec(path)
    return [(each.message, each.help) for each in raised.value.complaints]


@pytest.mark.parametrize(
    ("loss", "hint"),
    [
        ("bce", "'bce_with_logits' takes logits"),
        ("BCELoss", "'bce_with_logits' takes logits"),
        ("binary_cross_entropy", "'bce_with_logits' takes logits"),
        ("mse_loss", "did you mean 'mse'?"),
        ("nll_loss", "did you mean 'nll'?"),
        ("nn.CrossEntropyLoss", "did you mean 'cross_entropy'?"),
        ("CE", "did you mean 'cross_entropy'?"),
        ("mae", "did you mean 'l1'?"),
        ("{type: mse}", "did you mean 'name'?"),
        ("{mse: {}}", "write mse alone"),
        ("{mse: }", "write mse alone"),
        ("{cross_entropy: {label_smoothing: 0.1}}", "write {name: cross_entropy, label_smoothing: 0.1}"),
        ("[mse]", "write the name without brackets, as in loss: mse"),
        ("", "write the name of a loss"),
        ("{_target_: torch.nn.MSELoss}", "did you mean 'name'?"),
        ("{name: cross_entropy, from_logits: true}", "cross_entropy and bce_with_logits take logits"),
        ("{name: mse, reduction: none}", "a check needs a single number"),
        ("{name: mse, reduction: sum_over_batch_size}", "did you mean 'mean'?"),
    ],
)
def test_a_loss_of_another_tool_gets_a_hint(tmp_path, loss, hint):
    ((_, help),) = complaints(tmp_path, loss=loss)
    assert help.startswith(hint)


@pytest.mark.parametrize(
    ("activation", "hint"),
    [
        ("LeakyReLU", "did you mean 'leaky_relu'?"),
        ("swish", "did you mean 'silu'?"),
        ("nn.SiLU", "did you mean 'silu'?"),
        ("none", "did you mean 'identity'?"),
        ("logsoftmax", "it is a layer of its own: add '- log_softmax' after this layer"),
        ("relu6", "gradcheck does not know it"),
        ("null", "remove this key, or write identity"),
        ("false", "remove this key, or write identity"),
        ("[relu]", "write the name without brackets, as in activation: relu"),
        ("{relu: {}}", "write relu alone"),
        ("{leaky_relu: 0.1}", "write {name: leaky_relu}; its options have names, too"),
        ("{_target_: torch.nn.ReLU}", "did you mean 'name'?"),
    ],
)
def test_an_activation_of_another_tool_gets_a_hint(tmp_path, activation, hint):
    ((_, help),) = complaints(tmp_path, layer=f"{{units: 5, activation: {activation}}}")
    assert help.startswith(hint)


@pytest.mark.parametrize(
    ("layer", "hint"),
    [
        ("Linear", "{units: 10} is a dense layer"),
        ("{Linear: 5}", "{units: 10} is a dense layer"),
        ("{type: Linear, out_features: 5}", "{units: 10} is a dense layer"),
        ("{type: Linear, units: 5}", "the kind of a layer is its key"),
        ("{type: Conv2d, out_channels: 8}", "the kind of a layer is its key: {conv2d: …}"),
        ("{out: 5}", "did you mean 'units'?"),
        ("{relu: true}", "it belongs to a layer: {units: 10, activation: relu}"),
        ("ReLU", "it belongs to a layer: {units: 10, activation: relu}"),
        ("BatchNorm1d", "it belongs to a layer: {units: 10, batch_norm: true}"),
        ("{max_pool: 2}", "did you mean 'max_pool2d'?"),
        ("{units: 5, dropout: 0.5}", "dropout is a layer of its own"),
        ("{_target_: torch.nn.Linear, in_features: 4, out_features: 5}", "{units: 10} is a dense layer"),
        ("{class_name: Dense, config: {units: 5}}", "{units: 10} is a dense layer"),
        ("{conv2d: {filters: 3, kernel_size: 3}}", "write the number itself, as in {conv2d: 8}"),
        ("{lstm: {hidden_size: 8}}", "write the number itself, as in {lstm: 8}"),
        ("{dropout: {rate: 0.5}}", "write the number itself, as in {dropout: 0.5}"),
        ("{conv2d: 3, kernel: 3, padding: same}", "write the number of zeros on each side"),
        ("{conv2d: 3, kernel: 3, out_channels: 3}", "the number after 'conv2d' counts"),
        ("{activation: relu}", "an activation belongs to a layer"),
        ("{units: [5, 3]}", "write one layer for each number"),
        ("{units: 5, kernel_initializer: glorot}", "write parameters: {init: NAME}"),
        ("{units: 5, batch_norm: {momentum: 0.1}}", "remove this key"),
        ("{layer_norm: {eps: 1e-5}}", "write {layer_norm: true}; options such as eps go next to it"),
        ("{layer_norm: true, normalized_shape: 4}", "the value of 'layer_norm' is the shape"),
        ("{lstm: 8, batch_first: true}", "samples always come first"),
        ("{lstm: 8, return_sequences: true}", "the output holds every step"),
        ("{attention: 2, embed_dim: 4}", "it follows from the layer's input"),
        ("dropout", "write {dropout: …}"),
        ("5", "write {units: 5} for a dense layer"),
        ("null", "remove this item"),
    ],
)
def test_a_layer_of_another_tool_gets_one_hint(tmp_path, layer, hint):
    ((_, help),) = complaints(tmp_path, layer=layer)
    assert help.startswith(hint)


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        ("check: {only: hidden1}", "write parameters: [PATTERN]"),
        ("check: {tolerance: 1e-6}", "did you mean 'rtol'?"),
        ("check: {eps: 1e-6}", "did you mean 'step'?"),
        ("check: {dtype: float32}", "it belongs at the top of the spec"),
        ("optimizer: {lr: 0.1}", "a check trains nothing"),
        ("seed: 1", "it belongs under 'parameters', 'data' or 'check'"),
        ("penalty: {l2: 1}", "it belongs under 'network'"),
        ("batch_size: 3", "write data: {file: FILE, batch: 100}"),
        ("rtol: 1e-6", "it belongs under 'check'"),
        ("check: {rtol: '1e-6'}", "without quotes it is a number"),
        ("check: [w]", "write check: {parameters: [NAME, …]}"),
        ("gradients: 'net.py:f'", "write gradients: {python: net.py:f}"),
        ("gradients: mine.npz", "write gradients: {file: mine.npz}"),
        ("parameters: weights.npz", "write parameters: {file: weights.npz}"),
        ("device: cuda", "networks of a spec are checked on the CPU"),
        ("defaults: [base]", "a spec is a single file"),
    ],
)
def test_a_key_of_another_tool_gets_a_hint(tmp_path, more, hint):
    ((_, help),) = complaints(tmp_path, more=more)
    assert help.startswith(hint)


@pytest.mark.parametrize(
    ("found", "hint"), [("w", "write {file: FILE.npz, array: w}"), ("w.npz", "write {file: w.npz}")]
)
def test_a_name_in_place_of_an_array_is_shown_how_to_read_a_file(tmp_path, found, hint):
    ((message, help),) = complaints(tmp_path, loss=f"{{name: mse, sample_weight: {found}}}")
    assert message == f"'sample_weight' must be a list of numbers, or {{file: FILE}}, not '{found}'"
    assert help == hint


@pytest.mark.parametrize("kind", KNOWN)
def test_every_name_that_a_hint_proposes_exists(kind):
    for hint in elsewhere._NAMES[kind].values():
        assert set(re.findall(r"did you mean '(\w+)'", hint)) <= KNOWN[kind]


@pytest.mark.parametrize("kind", ["loss", "activation"])
def test_no_known_name_is_said_to_be_unknown(kind):
    assert not [name for name in KNOWN[kind] if elsewhere.help_for_name(kind, name) == elsewhere._CODE]


def test_every_key_that_a_hint_proposes_is_a_key_of_some_section():
    models = [Spec, NetworkSpec, LossSpec, CheckSpec, BatchNormSpec, InlineData, *KINDS.values()]
    known = {key for model in models for key in keys_of(model)} | {"negative_slope"}
    assert set(elsewhere._RENAMED) <= known
    assert {row.allowed_too for row in elsewhere._KEYS} <= known
