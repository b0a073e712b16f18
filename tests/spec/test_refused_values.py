"""Values that a spec refuses, and the messages that say what is allowed."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from small_spec import changed

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.spec.layers import KINDS
from gradcheck_cli.spec.spec import Spec


def beginnings(value):
    """Return the first lines of a value and of everything in it, as `told` formats them."""
    yield json.dumps(value, indent=1).split("\n")[0]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from beginnings(item)


ALONE = (
    "flatten, layer_norm, rms_norm, instance_norm, positional_embedding, prelu, softmax, log_softmax, mean, "
    "rotary"
)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network", None, "'network' must be a mapping, not nothing"),
        ("network", [1], "'network' must be a mapping, not a list"),
        ("network.inputs", 0, "'inputs' is 0; it must be at least 1"),
        ("network.inputs", -3, "'inputs' is -3; it must be at least 1"),
        ("network.inputs", 1_000_001, "'inputs' is 1000001; it must be at most 1,000,000"),
        ("network.inputs", 10**30, "'inputs' is 1" + "0" * 30 + "; it must be at most 1,000,000"),
        ("network.inputs", 2.0, "'inputs' must be a whole number, not 2.0"),
        ("network.inputs", True, "'inputs' must be a whole number, not true"),
        ("network.inputs", "many", "'inputs' must be a whole number, not 'many'"),
        ("network.layers", [], "'layers' is empty; it needs at least 1 item"),
        ("network.layers", {"units": 1}, "'layers' must be a list, not a mapping"),
        ("network.layers", [{"units": 1}] * 1001, "'layers' has more than 1,000 items"),
        *(
            (
                "network.layers.0",
                item,
                f"'layers[0]' must be a mapping such as {{units: 10}}, or one of {ALONE}, not {item!r}",
            )
            for item in (5, "conv2d")
        ),
        ("network.layers.0.units", 0, "'units' is 0; it must be at least 1"),
        ("network.layers.0.activation", None, "'activation' must be a name or a mapping, not nothing"),
        ("network.layers.0.activation.alpha", 0, "'alpha' is 0; it must be greater than 0"),
        ("network.layers.0.activation.alpha", "x", "'alpha' must be a number, not 'x'"),
        ("network.layers.0.name", 5, "'name' must be text, not 5"),
        ("network.loss", 5, "'loss' must be a name or a mapping, not 5"),
        ("network.loss.scale", 0, "'scale' is 0; it must be greater than 0"),
        ("network.loss.label_smoothing", 1.5, "'label_smoothing' is 1.5; it must be at most 1"),
        ("network.loss.weight", [1, -1], "'weight[1]' is -1; it must be at least 0"),
        ("network.penalty.l2", -0.1, "'l2' is -0.1; it must be at least 0"),
        ("network.penalty.biases", "yes", "'biases' must be true or false, not 'yes'"),
        ("parameters", "he", "'parameters' must be a mapping, not 'he'"),
        ("parameters.seed", -1, "'seed' is -1; it must be at least 0"),
        ("parameters.seed", 2**32, "'seed' is 4294967296; it must be less than 4,294,967,296"),
        ("parameters.bias", "ones", "'bias' is 'ones'; allowed: zeros, same"),
        ("data", "digits.npz", "'data' must be a mapping, not 'digits.npz'"),
        ("data.x", [], "'x' is empty; it needs at least 1 item"),
        ("data.x", "x.npz", "'x' must be a list, not 'x.npz'"),
        ("data.x.0", [], "'x[0]' is empty; it needs at least 1 item"),
        ("data.x.1.0", "3", "'x[1][0]' must be a number, not '3'"),
        ("data.y", 1, "'y' must be a list, not 1"),
        ("data.y", [[1], 2], "'y[1]' must be a list, not 2"),
        ("data.y.1", True, "'y[1]' must be a number, not true"),
        ("data.rescale", [0, 1], "'rescale' must be a mapping, not a list"),
        ("data.rescale.from", [0], "'from' must be two numbers, [low, high]"),
        ("data.rescale.from", [], "'from' must be two numbers, [low, high]"),
        ("data.rescale.to", [0, 1, 2], "'to' has more than 2 items"),
        ("data.rescale.from", [3, 3], "the interval 'from' is empty: both ends are the same"),
        ("data", {"file": ""}, "'file' must be a file name, not ''"),
        ("data", {"file": 5}, "'file' must be a file name, not 5"),
        ("data", {"file": "a\0b"}, "'file' must be a file name, not 'a\0b'"),
        ("data", {"file": "d", "x": 1}, "'x' must be text, not 1"),
        ("data", {"file": "d", "batch": 0}, "'batch' is 0; it must be at least 1"),
        ("data", {"file": "d", "start": -1}, "'start' is -1; it must be at least 0"),
        ("data", {"synthetic": "normal", "samples": 0}, "'samples' is 0; it must be at least 1"),
        ("check", [], "'check' must be a mapping, not a list"),
        ("check.parameters", [], "'parameters' is empty; it needs at least 1 item"),
        ("check.parameters", ["*", 3], "'parameters[1]' must be text, not 3"),
        ("check.step", 0, "'step' is 0; it must be greater than 0"),
        ("check.rtol", 1, "'rtol' is 1; it must be less than 1"),
        ("dtype", "double", "'dtype' is 'double'; allowed: float64, float32"),
        ("dtype", None, "'dtype' is nothing; allowed: float64, float32"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_with_what_is_allowed(told, path, value, message):
    found = told(**changed(path, value))
    assert [said for _, said, _ in found] == [message]
    ((place, _, _),) = found
    assert place in set(beginnings(value))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "path",
    ["network.layers.0.activation.alpha", "network.loss.scale", "network.loss.weight.0", "network.penalty.l2",
     "parameters.scale", "data.x.0.1", "data.y.0", "data.rescale.to.0", "check.step", "check.rtol"],
)  # fmt: skip
def test_a_number_that_is_not_finite_is_refused_everywhere(path, number):
    with pytest.raises(ValidationError) as caught:
        Spec.model_validate(changed(path, number))
    assert caught.value.errors()[0]["type"] == "finite_number"


@pytest.mark.parametrize(
    ("path", "kind", "table", "choices"),
    [
        # A word alone is a kind without options; the list of all kinds is too long for a message.
        ("network.layers.0", "layer", KINDS, f"{ALONE}, or a mapping such as {{units: 10}}"),
        ("network.layers.0.activation", "activation", ACTIVATIONS, ""),
        ("network.loss", "loss", LOSSES, ""),
        ("parameters.init", "initialiser", INITIALISERS, ""),
        ("check.scheme", "scheme", SCHEMES, ""),
    ],
)
def test_an_unknown_name_lists_what_is_allowed_and_suggests_the_closest(told, path, kind, table, choices):
    for name in table:
        ((place, message, help),) = told(**changed(path, f"{name}zz"))
        assert place == f'"{name}zz"'
        assert message == f"unknown {kind} '{name}zz'; choose from {choices or ', '.join(table)}"
        assert help in {f"did you mean '{known}'?" for known in table} | {None}
    ((_, _, help),) = told(**changed(path, f"{max(table, key=len)}z"))
    assert help == f"did you mean '{max(table, key=len)}'?"


def test_a_quoted_number_gets_help_about_the_quotes(told):
    ((_, message, help),) = told(**changed("check.step", "1e-5"))
    assert (message, help) == ("'step' must be a number, not '1e-5'", "without quotes it is a number")


def test_a_very_long_word_is_cut_in_the_message(told):
    long = "x" * 100_000
    messages = [
        message
        for path in ("network.inputs", "network.loss", "dtype", "check.scheme")
        for _, message, _ in told(**changed(path, long))
    ]
    messages += [message for _, message, _ in told(**{"x" * 500: 1})]
    assert len(messages) == 5
    assert all(len(message) < 300 and "…" in message for message in messages)


def test_items_with_errors_of_their_own_do_not_make_a_list_empty(told):
    messages = [message for _, message, _ in told(**changed("network.layers", [{"units": 0}]))]
    assert messages == ["'units' is 0; it must be at least 1"]
