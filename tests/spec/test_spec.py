"""Valid specs, and the messages for invalid ones."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from small_spec import DATA, NETWORK

from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.spec.data import DataFile, InlineData, SyntheticData
from gradcheck_cli.spec.gradients import Backprop, GradientFile
from gradcheck_cli.spec.layers import KINDS
from gradcheck_cli.spec.parameters import InitialisedParameters, ParameterFile
from gradcheck_cli.spec.spec import Spec


def spec_with(**parts) -> Spec:
    return Spec.model_validate({"network": NETWORK, "data": DATA, **parts})


def network_with(**parts):
    return spec_with(network={**NETWORK, **parts}).network


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


@pytest.mark.parametrize(
    ("written", "meant"), [("all", ("*",)), ("hidden1.weight", ("hidden1.weight",)), (["a", "b"], ("a", "b"))]
)
def test_the_parameters_to_check_are_patterns_one_or_many(written, meant):
    assert spec_with(check={"parameters": written}).check.parameters == meant


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        spec_with().dtype = "float32"
