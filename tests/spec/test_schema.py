"""The JSON schema matches the spec's models, according to an independent validator."""

from __future__ import annotations

import pytest
from jsonschema import Draft7Validator
from paths import ROOT
from pydantic import ValidationError
from ruamel.yaml import YAML
from small_spec import DATA, NETWORK, changed
from test_readme import blocks

import gradcheck_cli
from gradcheck_cli import Spec
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.initialisers import INITIALISERS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.numerical.schemes import SCHEMES
from gradcheck_cli.spec.schema import json_schema

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SCHEMA = json_schema(gradcheck_cli.__version__)
VALIDATOR = Draft7Validator(SCHEMA)


def parsed(text: str):
    return YAML(typ="safe", pure=True).load(text)


def everything(node):
    """Return every part of the schema that is a mapping."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from everything(child)


def test_it_is_draft_7_in_the_words_of_draft_7():
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft7Validator.META_SCHEMA["$id"]
    for node in everything(SCHEMA):
        assert not {"$defs", "prefixItems", "discriminator", "dependentSchemas"} & set(node)
        assert "$ref" not in node or set(node) == {"$ref"}  # draft-07 ignores whatever is next to it
    refs = {node["$ref"] for node in everything(SCHEMA) if "$ref" in node}
    assert refs == {f"#/definitions/{name}" for name in SCHEMA["definitions"]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_valid(path):
    VALIDATOR.validate(parsed(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_spec_of_the_readme_is_valid(block):
    VALIDATOR.validate({"data": DATA, **parsed(block)})


@pytest.mark.parametrize("name", ["spec", *SCHEMA["definitions"]])
def test_every_section_and_every_key_says_what_it_is(name):
    section = SCHEMA if name == "spec" else SCHEMA["definitions"][name]
    assert section["title"]
    assert section["description"].endswith(".")
    for key, described in section["properties"].items():
        assert described.get("description", "").endswith("."), key


@pytest.mark.parametrize(
    ("section", "key", "table"),
    [
        ("ActivationSpec", "name", ACTIVATIONS),
        ("LossSpec", "name", LOSSES),
        ("InitialisedParameters", "init", INITIALISERS),
        ("CheckSpec", "scheme", SCHEMES),
    ],
)
def test_the_names_are_those_of_the_tables(section, key, table):
    assert SCHEMA["definitions"][section]["properties"][key]["enum"] == list(table)


def test_a_default_is_what_may_stand_there():
    for node in everything(SCHEMA):
        if "default" in node:
            Draft7Validator({**node, "definitions": SCHEMA["definitions"]}).validate(node["default"])


def agree(spec: dict) -> bool:
    """Return whether the spec is valid; the schema and the models must agree."""
    complaints = [error.message for error in VALIDATOR.iter_errors(spec)]
    try:
        Spec.model_validate(spec)
        right = True
    except ValidationError:
        right = False
    assert (complaints == []) == right, complaints
    return right


GOOD = {"network": NETWORK, "data": DATA}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"gradients": {}},
        {"gradients": {"source": "backprop"}},
        {"gradients": {"file": "mine.npz", "names": {"W": "output.weight"}, "layout": "in_out"}},
        {"gradients": {"python": "net.py:f", "vectorized": True}},
        {"gradients": {"torch": "net.py:build"}},
        {"parameters": None},
        {"parameters": {}},
        {"parameters": {"file": "weights"}},
        {"parameters": {"seed": 1, "scale": None}},
        {"data": {"x": [[1, 2.5]], "y": [[1, 0]]}},
        {"data": {"file": "a.npz", "batch": None, "rescale": {"from": [0, 1], "to": [-1, 1]}}},
        {"check": {"jobs": "auto", "step": None}},
        {"check": {"jobs": 1024, "parameters": "all"}},
        {"check": {"parameters": ["a.*", "b"]}},
        *[
            {"network": {**NETWORK, "layers": [{"units": 1, "batch_norm": value}]}}
            for value in (True, False, None, {}, {"eps": 1e-3})
        ],
        *[
            {"network": {**NETWORK, "layers": [{"units": 1, "activation": {"name": name, **row.options}}]}}
            for name, row in ACTIVATIONS.items()
        ],
        *[
            {"network": {**NETWORK, "loss": {"name": name, "reduction": "sum", **row.options}}}
            for name, row in LOSSES.items()
        ],
    ],
    ids=str,
)  # fmt: skip
def test_what_a_spec_may_be_is_valid(parts):
    assert agree({**GOOD, **parts})


@pytest.mark.parametrize("source", [{"python": "net.py:f"}, {"torch": "net.py:build"}])
def test_code_needs_neither_network_nor_data(source):
    assert agree({"gradients": source})


@pytest.mark.parametrize(
    "spec",
    [{}, {"network": NETWORK}, {"data": DATA}, {"data": DATA, "gradients": {"file": "mine.npz"}}],
    ids=str,
)
def test_other_sections_need_network_and_data(spec):
    assert not agree(spec)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nework", {}),
        ("network", None),
        ("data", None),
        ("network.layers.0.activaton", "tanh"),
        ("network.layers.0.activation", "sigmod"),
        ("network.layers.0.activation", {"alpha": 1.0}),
        ("network.layers.0.activation", {"name": "tanh", "alpha": 1.0}),
        ("network.layers.0.units", 0),
        ("network.layers.0.units", "8"),
        ("network.layers.0.units", 2.5),
        ("network.layers.0.name", "1st"),
        ("network.layers", []),
        ("network.layers", {"units": 1}),
        ("network.loss", "msee"),
        ("network.loss", {"name": "mse", "delta": 1.0}),
        ("network.loss", {"name": "hinge", "weight": [1, 1]}),
        ("network.loss.reduction", "batch_mean"),
        ("network.penalty.l2", -1),
        ("parameters", "he"),
        ("parameters.init", "xaver"),
        ("parameters.seed", 2**32),
        ("parameters.file", "weights.npz"),
        ("data.x", "x.npz"),
        ("data.rescale.from", [0]),
        ("data.rescale.from", [0, 1, 2]),
        ("data.rescale.from", ["0", 1]),
        ("data", {"synthetic": "gaussian"}),
        ("data", {"samples": 3}),
        ("gradients", {"file": "a.npz", "python": "net.py:f"}),
        ("gradients", "mine.npz"),
        ("check.scheme", "centrall"),
        ("check.step", "1e-5"),
        ("check.rtol", 1),
        ("check.atol", -1),
        ("check.jobs", 0),
        ("check.jobs", "all"),
        ("check.strict", "yes"),
        ("dtype", "double"),
    ],
    ids=str,
)
def test_typical_mistakes_are_found(path, value):
    assert not agree(changed(path, value))


@pytest.mark.parametrize(
    ("place", "misspelt", "known"),
    [("activation", "sigmod", "sigmoid"), ("loss", "msee", "mse")],
)
def test_a_misspelt_name_is_answered_with_the_names(place, misspelt, known):
    layer = {"units": 1} | ({"activation": misspelt} if place == "activation" else {})
    loss = misspelt if place == "loss" else "mse"
    spec = {"network": {"inputs": 2, "layers": [layer], "loss": loss}, "data": DATA}
    messages = [error.message for error in VALIDATOR.iter_errors(spec)]
    assert any(f"'{misspelt}' is not one of" in message and f"'{known}'" in message for message in messages)


def test_a_copy_says_of_which_version_it_is():
    assert SCHEMA["$id"].endswith(f":{gradcheck_cli.__version__}")


def test_the_schema_lists_every_name_and_lets_activation_and_loss_be_a_word():
    schema = Spec.model_json_schema()
    definitions = schema["$defs"]
    for table, definition, field in (
        (ACTIVATIONS, "ActivationSpec", "name"),
        (LOSSES, "LossSpec", "name"),
        (INITIALISERS, "InitialisedParameters", "init"),
        (SCHEMES, "CheckSpec", "scheme"),
    ):
        assert definitions[definition]["properties"][field]["enum"] == list(table)
    for table, definition, field in (
        (ACTIVATIONS, "LayerSpec", "activation"),
        (LOSSES, "NetworkSpec", "loss"),
    ):
        assert {"enum": list(table), "type": "string"} in definitions[definition]["properties"][field][
            "anyOf"
        ]
    assert "required" not in schema  # gradients from code need neither network nor data
    assert schema["additionalProperties"] is False
