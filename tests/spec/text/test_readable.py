"""What a spec may look like: encodings, line ends, words and numbers of YAML 1.2, paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spec_text import DATA, NETWORK, only, places, refused, stdin, written

from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.file import load_spec, read_spec


def test_a_spec_is_read_with_its_defaults():
    spec = load_spec(written(NETWORK + DATA))
    assert (spec.network.inputs, spec.network.layers[0].units) == (2, 1)
    assert tuple(spec.network.names.values()) == ("output",)
    assert (spec.dtype, spec.check.parameters) == ("float64", ("*",))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_any_line_ending_will_do_and_positions_count_it_once(ending):
    text = f"# é\n{NETWORK}data:\n  synthetic: normal\n  sample: 3\n".replace("\n", ending)
    assert places(refused(text.encode())) == [(5, 3, "unknown key 'sample'")]


def test_a_byte_order_mark_is_not_part_of_the_first_key():
    assert load_spec(written(("\ufeff" + NETWORK + DATA).encode())).network.inputs == 2
    assert places(refused(("\ufeffnetwrk: 1\n" + DATA).encode())) == [(1, 1, "unknown key 'netwrk'")]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_characters_that_end_a_line_elsewhere_do_not_in_yaml(character):
    text = f"network: {{inputs: 2, layers: [{{units: 1, name: 'a{character}b'}}], loss: mse}}\ndata: 1\n"
    error = refused(text)
    assert [(line, column) for line, column, _ in places(error)] == [(1, 48), (2, 7)]
    assert error.complaints[1].position.text == "data: 1"


@pytest.mark.parametrize(
    ("written_as", "number"),
    [("1e-5", 1e-5), ("1E+2", 100.0), (".5", 0.5), ("0x10", 16.0), ("0o10", 8.0), ("+3", 3.0)],
)
def test_numbers_are_those_of_yaml_1_2(written_as, number):
    spec = load_spec(written(f"{NETWORK}data: {{synthetic: normal, scale: {written_as}}}\n"))
    assert spec.data.scale == number


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "2020-01-01", "2020-99-99", "1:30", "=", "<<"])
def test_special_words_of_yaml_1_1_are_text(word):
    complaint = only(f"network: {{inputs: 2, layers: [{{units: 1}}], loss: {word}}}\n{DATA}")
    assert complaint.message.startswith(f"unknown loss '{word}'; choose from mse, ")


def test_aliases_and_merges_are_written_out_and_the_mappings_own_keys_win():
    spec = load_spec(
        written(
            """\
            network:
              inputs: 2
              layers:
                - &wide {units: 7, activation: tanh}
                - *wide
                - {<<: *wide, units: 3}
                - {activation: relu, <<: [{units: 4}, {units: 5, name: last}]}
              loss: mse
            data: {synthetic: normal}
            """
        )
    )
    layers = spec.network.layers
    assert [layer.units for layer in layers] == [7, 7, 3, 4]
    assert [layer.activation.name for layer in layers] == ["tanh", "tanh", "tanh", "relu"]
    assert tuple(spec.network.names.values()) == ("hidden1", "hidden2", "hidden3", "last")


def test_an_error_behind_an_alias_is_reported_once_where_it_is_written():
    text = "network: {inputs: 2, layers: [&a {units: x}, *a, {<<: *a}], loss: mse}\n" + DATA
    assert places(refused(text)) == [(1, 42, "'units' must be a whole number, not 'x'")]


def test_an_anchor_may_be_used_again():
    text = "network: {inputs: &n 2, layers: [{units: &n 3}, {units: *n}], loss: mse}\n" + DATA
    assert load_spec(written(text)).network.layers[1].units == 3


def test_files_are_relative_to_the_spec(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "net.yaml").write_text(f"{NETWORK}data: {{file: ../d.npz}}\n")
    assert load_spec(Path("sub/net.yaml")).data.file == Path("sub/../d.npz")
    assert load_spec(folder / "sub" / "net.yaml").data.file == folder / "sub" / ".." / "d.npz"


def test_absolute_and_home_paths_stay_what_they_are(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    text = f"{NETWORK}data: {{file: ~/d.npz}}\nparameters: {{file: {json.dumps(str(folder / 'w.npz'))}}}\n"
    spec = load_spec(written(text))
    assert (spec.data.file, spec.parameters.file) == (folder / "d.npz", folder / "w.npz")


def test_an_unknown_home_is_bad_input(monkeypatch):
    complaint = only(f"{NETWORK}data: {{file: ~nobody-of-this-name/d.npz}}\n")
    assert complaint.message == "'file': there is no home folder for ~nobody-of-this-name/d.npz"


NAMED = """\
network:
  inputs: 2
  layers:
    - {units: 1, name: first}
    - <<: {units: 1}
  loss: mse
data: {synthetic: normal}
"""


@pytest.mark.parametrize(
    ("tensor", "line"),
    [("first.weight", 4), ("first.gamma", 4), ("output.bias", 5), ("nobodys.weight", None)],
)
def test_a_tensor_stands_where_its_layer_does(tensor, line):
    place = read_spec(written(NAMED)).place_of(tensor)
    assert (place and place.line) == line


def test_a_tensor_of_code_stands_where_the_code_is_named():
    read = read_spec(written("data: {x: [[1]], y: [1]}\ngradients: {python: a.py:f}\n"))
    assert (read.place_of("w").line, read.place_of("w").column) == (2, 12)


def test_a_dash_is_standard_input_and_its_files_are_relative_to_here(monkeypatch):
    stdin(monkeypatch, f"{NETWORK}data: {{file: d.npz}}\n".encode())
    read = read_spec("-")
    assert (read.path, read.spec.data.file) == ("<stdin>", Path("d.npz"))


def test_errors_on_standard_input_are_positioned_too(monkeypatch):
    stdin(monkeypatch, b"network: 1\n")
    with pytest.raises(InputError) as caught:
        read_spec("-")
    assert str(caught.value).startswith("<stdin>:1:1: error: missing key 'data'\n")
