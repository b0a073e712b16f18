"""Valid specs, and the messages for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from gradcheck_cli.errors import InputError
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.spec.data import DataFile, InlineData, SyntheticData
from gradcheck_cli.spec.file import read_spec
from gradcheck_cli.spec.gradients import Backprop, GradientFile
from gradcheck_cli.spec.layers import KINDS
from gradcheck_cli.spec.parameters import InitialisedParameters, ParameterFile
from gradcheck_cli.spec.spec import Spec

NETWORK = {"inputs": 2, "layers": [{"units": 1}], "loss": "mse"}
DATA = {"synthetic": "normal"}


def spec_with(**parts) -> Spec:
    return Spec.model_validate({"network": NETWORK, "data": DATA, **parts})


def network_with(**parts):
    return spec_with(network={**NETWORK, **parts}).network


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Return the complaints about a spec with the parts told(network={…}, …), as (value, message, help)."""
    monkeypatch.chdir(tmp_path)

    def told(**parts):
        # Each line has one value, so the rest of the line is the value.
        Path("net.yaml").write_text(json.dumps({"network": NETWORK, "data": DATA, **parts}, indent=1))
        with pytest.raises(InputError) as caught:
            read_spec("net.yaml")
        return [
            (c.position.text[c.position.column - 1 :].rstrip(","), c.message, c.help)
            for c in caught.value.complaints
        ]

    return told


# --- everything in the tables can be asked for -----------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_goes_by_its_name_or_with_its_options(name):
    row = ACTIVATIONS[name]
    layers = [{"units": 1, "activation": name}, {"units": 1, "activation": {"name": name, **row.options}}]
    short, long = network_with(layers=layers).layers
    assert short.activation.name == long.activation.name == name
    assert short.activation.options == long.activation.options == row.options


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_refuses_the_options_of_others(told, name):
    own = ACTIVATIONS[name].options
    foreign = {option for row in ACTIVATIONS.values() for option in row.options} - set(own)
    value = {
        row_option: default for row in ACTIVATIONS.values() for row_option, default in row.options.items()
    }
    told_what = told(network={**NETWORK, "layers": [{"units": 1, "activation": {"name": name, **value}}]})
    allowed = f"it has {', '.join(own)}" if own else "it has no options"
    assert {(place.split(":")[0], message) for place, message, _ in told_what} == {
        (f'"{option}"', f"'{name}' has no option '{option}'; {allowed}") for option in foreign
    }


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_goes_by_its_name_or_with_its_reduction_scale_and_options(name, reduction):
    options = LOSSES[name].options
    assert network_with(loss=name).loss.options == options
    loss = network_with(loss={"name": name, "reduction": reduction, "scale": 0.5, **options}).loss
    assert (loss.reduction, loss.scale, loss.options) == (reduction, 0.5, options)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_refuses_the_options_of_others(told, name):
    given = {"delta": 2.0, "label_smoothing": 0.1, "weight": [1.0], "ignore_index": 0, "margin": 2.0}
    own = {*LOSSES[name].options, *LOSSES[name].of_target}
    refused = told(network={**NETWORK, "loss": {"name": name, **given}})
    assert {place.split(":")[0].strip('"') for place, _, _ in refused} == set(given) - own
    for _, message, _ in refused:
        assert "; it has reduction, scale" in message


def test_label_smoothing_and_class_weights_belong_to_losses_over_a_distribution():
    smoothed = {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [1, 0.5]}
    loss = network_with(loss=smoothed).loss
    assert (loss.label_smoothing, loss.weight) == (0.1, (1.0, 0.5))


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_has_a_strength_which_is_0_by_default(name):
    assert network_with().penalty.strengths == {}
    penalty = network_with(penalty={name: 0.5, "biases": True}).penalty
    assert (penalty.strengths, penalty.biases) == ({name: 0.5}, True)


@pytest.mark.parametrize("name", INITIALISERS)
def test_every_initialiser_can_be_asked_for(name):
    parameters = spec_with(
        parameters={"init": name, "scale": 2, "seed": 2**32 - 1, "bias": "same"}
    ).parameters
    assert (parameters.init, parameters.scale, parameters.seed) == (name, 2.0, 2**32 - 1)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_can_be_asked_for(name):
    assert spec_with(check={"scheme": name}).check.scheme == name


def test_the_defaults_are_the_safe_ones():
    spec = spec_with()
    assert spec.parameters is None  # drawn as by InitialisedParameters(), or defined by the code
    assert InitialisedParameters() == InitialisedParameters(init="xavier", seed=0, bias="zeros")
    assert spec.gradients == Backprop()
    assert (spec.check.scheme, spec.check.differences) == (DEFAULT_SCHEME, "units")
    assert (spec.check.step, spec.check.rtol, spec.check.parameters) == (None, None, ("*",))
    assert (spec.network.loss.reduction, spec.network.loss.scale) == ("batchmean", 1.0)
    assert spec.network.layers[0].activation.name == "identity"


# --- the keys of a section tell its kind -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "value", "kind"),
    [
        ("parameters", {"file": "w.npz"}, ParameterFile),
        ("parameters", {"init": "he"}, InitialisedParameters),
        ("parameters", {"seed": 3}, InitialisedParameters),
        ("parameters", {}, InitialisedParameters),
        ("data", {"file": "d.npz", "x": "images", "y": "labels"}, DataFile),
        ("data", {"synthetic": "uniform"}, SyntheticData),
        ("data", {"x": [[1, 2]], "y": [1]}, InlineData),
        ("gradients", {"file": "g.npz"}, GradientFile),
        ("gradients", {"source": "backprop"}, Backprop),
        ("gradients", {}, Backprop),
    ],
)
def test_a_section_is_the_kind_that_its_keys_say(section, value, kind):
    section_read = getattr(spec_with(**{section: value}), section)
    assert type(section_read) is kind
    assert getattr(spec_with(**{section: section_read}), section) is section_read


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("data", {"fil": "d.npz"}, [("unknown key 'fil'", "did you mean 'file'?")]),
        ("data", {"synthetc": "normal"}, [("unknown key 'synthetc'", "did you mean 'synthetic'?")]),
        (
            "data",
            {"samples": 3, "seed": 1},
            [
                (
                    "missing key 'synthetic'",
                    "allowed here: synthetic, samples, scale, seed; other kinds need 'file' or 'x'",
                )
            ],
        ),
        (
            "data",
            {"y": [1]},
            [("missing key 'x'", "allowed here: x, y, rescale; other kinds need 'file' or 'synthetic'")],
        ),
        (
            "data",
            {},
            [
                ("missing key 'x'", "allowed here: x, y, rescale; other kinds need 'file' or 'synthetic'"),
                ("missing key 'y'", "allowed here: x, y, rescale; other kinds need 'file' or 'synthetic'"),
            ],
        ),
        ("parameters", {"fille": "w.npz"}, [("unknown key 'fille'", "did you mean 'file'?")]),
        ("parameters", {"sed": 1}, [("unknown key 'sed'", "did you mean 'seed'?")]),
        ("gradients", {"sorce": "backprop"}, [("unknown key 'sorce'", "did you mean 'source'?")]),
    ],
)  # fmt: skip
def test_a_section_of_unknown_kind_is_read_as_the_likeliest(told, section, value, expected):
    assert [(message, help) for _, message, help in told(**{section: value})] == expected


def test_a_misspelt_key_is_not_also_reported_as_missing(told):
    (what,) = told(network={"inputs": 2, "layers": [{"unitz": 1}], "loss": "mse"})
    assert what == ('"unitz": 1', "unknown key 'unitz'", "did you mean 'units'?")


@pytest.mark.parametrize("key", ["linear", "dense", "fc", "fully_connected"])
def test_a_dense_layer_under_another_name_is_shown_as_units(told, key):
    (what,) = told(network={"inputs": 2, "layers": [{key: 1, "bias": False}], "loss": "mse"})
    assert what == (f'"{key}": 1', f"unknown key '{key}'", "{units: 10} is a dense layer")


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - set(KINDS)))
def test_an_activation_written_as_a_layer_is_shown_where_it_belongs(told, name):
    (what,) = told(network={"inputs": 2, "layers": [{"units": 1}, name], "loss": "mse"})
    assert what[1:] == (
        f"'{name}' is an activation, not a layer",
        f"it belongs to a layer: {{units: 10, activation: {name}}}",
    )


@pytest.mark.parametrize("name", ["batch_norm", "weight_norm"])
def test_a_norm_that_is_an_option_is_shown_where_it_belongs(told, name):
    ((_, message, help),) = told(network={"inputs": 2, "layers": [{"units": 1}, name], "loss": "mse"})
    assert message == f"'{name}' is an option, not a layer"
    assert help == f"it belongs to a layer: {{units: 10, {name}: true}}"
    assert spec_with(network={"inputs": 2, "layers": [{"units": 10, name: True}], "loss": "mse"})


def test_an_unknown_key_that_is_like_no_other_lists_what_there_is(told):
    assert told(qqq=1) == [
        (
            '"qqq": 1',
            "unknown key 'qqq'",
            "allowed here: gradients, network, data, parameters, check, dtype",
        )
    ]


# --- names of layers -------------------------------------------------------------------------------------


def test_layers_are_named_hidden1_hidden2_output_unless_they_say_otherwise():
    units = {"units": 1}
    assert tuple(network_with(layers=[units]).names.values()) == ("output",)
    assert tuple(network_with(layers=[units] * 3).names.values()) == ("hidden1", "hidden2", "output")
    named = {"units": 1, "name": "encoder_1-a"}
    assert tuple(network_with(layers=[units, named, units]).names.values()) == (
        "hidden1",
        "encoder_1-a",
        "output",
    )


@pytest.mark.parametrize("name", ["", "1st", "a.b", "a b", "é", "-a", "a\n", "a/b"])
def test_a_name_unfit_for_a_parameter_or_a_file_is_refused(told, name):
    ((_, message, _),) = told(network={**NETWORK, "layers": [{"units": 1, "name": name}]})
    assert message.endswith(
        "; a name may contain only letters, digits, _ and -, and must begin with a letter or _"
    )


def test_an_endless_name_is_refused(told):
    ((_, message, _),) = told(network={**NETWORK, "layers": [{"units": 1, "name": "a" * 65}]})
    assert message == "'name' is longer than 64 characters"


# --- what is refused, and how it is said -----------------------------------------------------------------


def beginnings(value):
    """Return the first lines of a value and of everything in it, as `told` formats them."""
    yield json.dumps(value, indent=1).split("\n")[0]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from beginnings(item)


ALONE = (
    "flatten, layer_norm, rms_norm, instance_norm, positional_embedding, prelu, softmax, log_softmax, mean, "
    "rotary"
)


def changed(path: str, value):
    """Return the parts of a good spec with another value at a path like network.layers.0.units."""
    parts = {
        "network": {
            "inputs": 2,
            "layers": [{"units": 2, "activation": {"name": "elu", "alpha": 1.0}}],
            "loss": {"name": "cross_entropy", "scale": 1.0, "label_smoothing": 0.1, "weight": [1, 1]},
            "penalty": {"l2": 0.1, "biases": True},
        },
        "parameters": {"init": "normal", "scale": 1.0, "seed": 0, "bias": "same"},
        "data": {"x": [[1, 2], [3, 4]], "y": [0, 1], "rescale": {"from": [0, 1], "to": [0, 2]}},
        "check": {"parameters": ["*"], "scheme": "central", "step": 0.1, "rtol": 0.1, "seed": 0},
        "dtype": "float64",
    }
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    container = parts
    for step in parents:
        container = container[step]
    container[last] = value
    return parts


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


@pytest.mark.parametrize(
    ("written", "meant"), [("all", ("*",)), ("hidden1.weight", ("hidden1.weight",)), (["a", "b"], ("a", "b"))]
)
def test_the_parameters_to_check_are_patterns_one_or_many(written, meant):
    assert spec_with(check={"parameters": written}).check.parameters == meant


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        spec_with().dtype = "float32"
