"""Reading a spec: which YAML is valid, and where errors are located."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck_cli.errors import Complaint, ExitCode, InputError
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.file import load_spec, read_spec

NETWORK = "network: {inputs: 2, layers: [{units: 1}], loss: mse}\n"
DATA = "data: {synthetic: normal}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Change to a folder in which every spec is called net.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    Path("net.yaml").write_bytes(data)
    return "net.yaml"


def refused(text: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        read_spec(written(text))
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    return caught.value


def places(error: InputError) -> list[tuple[int, int, str]]:
    """Return line, column and message of every complaint."""
    return [(c.position.line, c.position.column, c.message) for c in error.complaints]


def only(text: str | bytes) -> Complaint:
    (complaint,) = refused(text).complaints
    return complaint


# --- what can be read ------------------------------------------------------------------------------------


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


def stdin(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_a_dash_is_standard_input_and_its_files_are_relative_to_here(monkeypatch):
    stdin(monkeypatch, f"{NETWORK}data: {{file: d.npz}}\n".encode())
    read = read_spec("-")
    assert (read.path, read.spec.data.file) == ("<stdin>", Path("d.npz"))


def test_errors_on_standard_input_are_positioned_too(monkeypatch):
    stdin(monkeypatch, b"network: 1\n")
    with pytest.raises(InputError) as caught:
        read_spec("-")
    assert str(caught.value).startswith("<stdin>:1:1: error: missing key 'data'\n")


# --- what cannot be read ---------------------------------------------------------------------------------


def unreadable(name: str) -> str:
    with pytest.raises(InputError) as caught:
        read_spec(name)
    return str(caught.value)


def test_a_missing_file_is_named_and_a_close_one_suggested():
    written(NETWORK)
    assert unreadable("nett.yaml") == (
        "error: cannot read 'nett.yaml': there is no such file\n      = help: did you mean 'net.yaml'?"
    )
    assert unreadable("absent/net.yaml") == "error: cannot read 'absent/net.yaml': there is no such file"


def test_a_folder_is_not_a_spec():
    assert unreadable(".") == "error: cannot read '.': it is a folder; a spec is a YAML file"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, ""])
def test_an_impossible_file_name_is_bad_input(name):
    assert unreadable(name).startswith("error: cannot read '")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_bad_input():
    os.chmod(written(NETWORK), 0)
    assert unreadable("net.yaml") == "error: cannot read 'net.yaml': Permission denied"


def test_a_device_error_is_bad_input(monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", fail)
    Path("net.yaml").touch()
    assert unreadable("net.yaml") == "error: cannot read 'net.yaml': Input/output error"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_that_nobody_writes_to_is_empty_and_does_not_hang():
    os.mkfifo("net.yaml")
    assert unreadable("net.yaml").startswith("error: 'net.yaml' is empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_read_to_its_end(monkeypatch):
    os.mkfifo("net.yaml")
    writer = os.open("net.yaml", os.O_RDWR)
    os.write(writer, (NETWORK + DATA).encode())
    set_blocking = os.set_blocking

    def and_close(descriptor, blocking):  # after the reader has opened it
        set_blocking(descriptor, blocking)
        os.close(writer)

    monkeypatch.setattr(os, "set_blocking", and_close)
    assert read_spec("net.yaml").spec.network.inputs == 2


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (None, "it is closed"),
        (SimpleNamespace(), "it is closed"),
        (SimpleNamespace(buffer=SimpleNamespace(read=lambda _: os.listdir("net.yaml/x"))), "Not a directory"),
    ],
)
def test_standard_input_that_cannot_be_read_is_bad_input(monkeypatch, stream, reason):
    written(NETWORK)
    monkeypatch.setattr(sys, "stdin", stream)
    assert unreadable("-") == f"error: cannot read '<stdin>': {reason}"


@pytest.mark.parametrize("data", [b"network: 1\nloss: \xe9\n", b"ok: 1\n\xff", b"ok: 1\n\xfe\xff\n"])
def test_invalid_utf8_is_refused_with_its_line(data):
    assert only(data).message == "cannot read 'net.yaml': line 2 is not UTF-8 text"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named(encoding):
    complaint = only(f"\ufeff{NETWORK}{DATA}".encode(encoding))
    assert complaint.message == "cannot read 'net.yaml': it is UTF-16 text"
    assert complaint.help.startswith("save it as UTF-8")


@pytest.mark.parametrize("text", ["network:\n\tinputs: 2\n", "network:\n  layers:\n\t- units: 2\n"])
def test_a_tab_is_answered_with_spaces(text):
    complaint = only(text)
    assert "\\t" in complaint.message
    assert complaint.help == "indent with spaces, not with tabs"


@pytest.mark.parametrize(
    ("word", "meant"),
    [("ReLU", "relu"), ("RELU", "relu"), ("Sigmoid", "sigmoid"), ("LeakyReLU", "leaky_relu")],
)
def test_a_word_in_capitals_is_recognised(word, meant):
    text = f"network: {{inputs: 2, layers: [{{units: 1, activation: {word}}}], loss: mse}}\n{DATA}"
    assert only(text).help == f"did you mean '{meant}'?"
    assert only(text.replace(word, meant).replace("mse", "MSE")).help == "did you mean 'mse'?"


@pytest.mark.parametrize("tag", ["!foo", "!!str", "!!python/object:os.x", "!!omap", "!!null", "!!set"])
@pytest.mark.parametrize("before", ["", "--- "])
def test_a_tag_on_the_whole_is_refused_at_its_place(tag, before):
    (complaint,) = refused(f"{before}{tag}\n{NETWORK}{DATA}").complaints
    assert complaint.message == f"tag '{tag}' is not allowed; a spec is plain data"
    assert complaint.position.file == "net.yaml"


def test_more_keys_than_any_spec_has_are_refused_before_all_are_read():
    complaint = only("".join(f"key{i}: 1\n" for i in range(60_000)))
    assert complaint.message == "the spec has more than 15,000 values; put the numbers into an .npz file"
    assert complaint.position.line == 7500


def test_a_file_beyond_the_limit_is_refused_unparsed():
    complaint = only("#" * (2 * 2**20 + 1))
    assert complaint.message == "cannot read 'net.yaml': it is larger than 2 MiB"
    assert complaint.help == "put the numbers into an .npz file"


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_file_is_said_to_be_empty(text):
    assert only(text).message == "'net.yaml' is empty; a spec needs at least 'network' and 'data'"


@pytest.mark.parametrize(
    ("text", "found", "line"),
    [("- network\n", "a list", 1), ("# x\nhello\n", "a single value", 2), ("null\n", "a single value", 1)],
)
def test_a_root_that_is_not_a_mapping_is_refused_by_its_type(text, found, line):
    assert places(refused(text)) == [
        (line, 1, f"a spec is a mapping with 'network' and 'data'; this is {found}")
    ]


# --- what is no YAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("network:\n\tinputs: 3\n", 2, 1, "found character '\\t' that cannot start any token"),
        ("network: {inputs: 3\n", 1, 20, "expected ',' or '}', but got '<stream end>'"),
        ("network: [1,\n\n\n", 1, 13, "expected the node content, but found '<stream end>'"),
        ("a: b: c\n", 1, 5, "mapping values are not allowed here"),
        ("network: *x\n", 1, 10, "found undefined alias 'x'"),
        ("network: 1\n---\ndata: 2\n", 2, 1, "but found another document"),
        ('network: "\\q"\n', 1, 12, "found unknown escape character 'q'"),
        (
            "network:\n  inputs: 3\n layers: 2\n",
            3,
            2,
            "expected <block end>, but found '<block mapping start>'",
        ),
        ("a: 1\nb: x\x01y\n", 2, 5, "the character U+0001 is not allowed"),
        ("a: \x00\n", 1, 4, "the character U+0000 is not allowed"),
        ("%YAML 3.0\n---\na: 1\n", 1, 1, "found incompatible YAML document (version 1.* is required)"),
    ],
)
def test_a_syntax_error_is_located(text, line, column, message):
    assert places(refused(text.encode())) == [(line, column, f"this is not YAML: {message}")]


def test_a_crash_of_the_parser_is_a_syntax_error():
    complaint = only('network: "\\U99999999"\n')  # no such code point, so chr() raises
    assert complaint.message.startswith("net.yaml: this is not YAML: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "a: &a {<<: *a}\n",
        "a: " + "[" * 5000,
        "a: " + "[" * 100 + "]" * 100 + "\n",
        "{a: " * 100 + "1" + "}" * 100,
        "- " * 1000 + "\n",
        "? " * 1000 + "\n",
    ],
    ids=[
        "list in itself",
        "mapping in itself",
        "merged into itself",
        "[[[",
        "[[]]",
        "{{}}",
        "- - -",
        "? ? ?",
    ],
)
def test_endless_nesting_is_refused_where_it_is(text):
    ((line, _, message),) = places(refused(text))
    assert (line, message) == (1, "the spec is nested too deeply, or contains itself through an alias")


def test_aliases_of_aliases_do_not_grow_without_bound():
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    assert only(bomb).message == "with its aliases written out, the spec has more than 1,000,000 values"


def test_too_many_values_are_refused_before_all_are_read(monkeypatch):
    monkeypatch.setattr("gradcheck_cli.spec.tree._MAX_NODES", 20)
    text = f"{NETWORK}data:\n  x:\n" + "    - 1\n" * 100
    assert places(refused(text)) == [
        (8, 7, "the spec has more than 20 values; put the numbers into an .npz file")
    ]


def test_a_mapping_of_thousands_of_keys_is_refused():
    text = f"{NETWORK}data: {{{', '.join(f'a{i}: 1' for i in range(1001))}}}\n"
    assert places(refused(text)) == [
        (2, 7, "this mapping has 1,001 keys; no part of a spec has more than a few")
    ]


# --- what is YAML, but no plain data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!!python/object/apply:os.system ['touch pwned']", "!!python/object/apply:os.system"),
        ("!!python/name:os.system ''", "!!python/name:os.system"),
        ("!mine 3", "!mine"),
        ("!!set {a, b}", "!!set"),
        ("!!omap [a: 1]", "!!omap"),
        ("!!binary aGk=", "!!binary"),
        ("!!int [1]", "!!int"),
        ("!!map x", "!!map"),
    ],
)
def test_a_tag_is_refused_and_runs_nothing(folder, value, tag):
    assert places(refused(f"network: {value}\n{DATA}")) == [
        (1, 10, f"tag '{tag}' is not allowed; a spec is plain data")
    ]
    assert os.listdir(folder) == ["net.yaml"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!int abc", "'abc' cannot be read as int"),
        ("!!float ''", "'' cannot be read as float"),
        ("!!bool maybe", "'maybe' cannot be read as bool"),
        ("9" * 5000, f"'{'9' * 39}…' cannot be read as int"),
        ("0x" + "f" * 5000, f"the number 0x{'f' * 37}… is too large"),
        ("-" + "9" * 400, f"the number -{'9' * 38}… is too large"),
        ('"\\ud800"', "'\\ud800' is not Unicode text"),
    ],
)
def test_an_invalid_scalar_is_refused_once(value, message):
    error = refused(f"network: {{inputs: {value}, layers: [{{units: 1}}], loss: mse}}\n{DATA}")
    assert [(line, column) for line, column, _ in places(error)] == [(1, 19)]
    assert message in str(error).splitlines()[0]


@pytest.mark.parametrize("digits", [19, 20, 39, 309])
def test_a_number_beyond_64_bits_is_too_large_and_nothing_worse(digits):
    complaint = only(f"{NETWORK}data: {{synthetic: normal, samples: 1{'0' * digits}}}\n")
    assert complaint.message.endswith("; it must be at most 1,000,000")


@pytest.mark.parametrize(("key", "column"), [("[a, b]", 3), ("{a: 1}", 3), ("? [a]\n  ", 5)])
def test_a_key_that_is_not_a_word_is_refused(key, column):
    assert (2, column, "a key must be a word") in places(refused(f"network:\n  {key}: 1\n{DATA}"))


@pytest.mark.parametrize("key", ["1", "null", "true", "1.5", "2020-01-01", "''", "~"])
def test_a_key_that_is_not_text_is_an_unknown_word(key):
    assert (2, 1, f"unknown key '{key.strip(chr(39))}'") in places(refused(f"{NETWORK}{key}: 1\n{DATA}"))


def test_half_a_surrogate_pair_is_not_a_key():
    assert places(refused(f'{NETWORK}"\\udfff": 1\n{DATA}')) == [(2, 1, "'\udfff' is not Unicode text")]


@pytest.mark.parametrize(
    ("value", "column"), [("3", 15), ("[3]", 15), ("[{inputs: 2}, x]", 15), ("null", 15)]
)
def test_only_mappings_can_be_merged(value, column):
    assert (1, column, "'<<' needs a mapping, or a list of mappings") in places(
        refused(f"network: {{<<: {value}, inputs: 2, layers: [{{units: 1}}], loss: mse}}\n{DATA}")
    )


def test_a_key_given_twice_is_refused_at_the_second_with_the_line_of_the_first():
    text = """\
        network:
          inputs: 2
          layers: [{units: 1, "units": 2}]
          loss: mse
          inputs: 3
        data: {synthetic: normal}
        data: {synthetic: uniform}
        """
    assert places(refused(text)) == [
        (3, 23, "key 'units' is already given on line 3"),
        (5, 3, "key 'inputs' is already given on line 2"),
        (7, 1, "key 'data' is already given on line 6"),
    ]


def test_a_merge_given_twice_is_refused():
    text = f"network: {{<<: {{inputs: 2, loss: mse}}, <<: {{layers: [{{units: 1}}]}}}}\n{DATA}"
    assert (1, 39, "key '<<' is already given on line 1") in places(refused(text))


# --- all errors of a file, in reading order --------------------------------------------------------------


def test_all_errors_of_a_file_are_reported_at_once_in_reading_order():
    error = refused(
        """\
        network:
          inputs: 0
          layers:
            - {units: 8, activaton: tanh}
            - {units: -1, activation: {name: elu, alpha: zero}}
          loss: {name: mse, reduction: batch_mean}
        data: {synthetic: normal, samples: 2.5}
        check: {scheme: centrl, rtol: .nan}
        dtype: float16
        dtype: float64
        """
    )
    assert str(error) == textwrap.dedent(
        """\
        net.yaml:2:11: error: 'inputs' is 0; it must be at least 1
            2 |     inputs: 0
              |             ^
        net.yaml:4:18: error: unknown key 'activaton'
            4 |       - {units: 8, activaton: tanh}
              |                    ^
              = help: did you mean 'activation'?
        net.yaml:5:15: error: 'units' is -1; it must be at least 1
            5 |       - {units: -1, activation: {name: elu, alpha: zero}}
              |                 ^
        net.yaml:5:50: error: 'alpha' must be a number, not 'zero'
            5 |       - {units: -1, activation: {name: elu, alpha: zero}}
              |                                                    ^
        net.yaml:6:32: error: 'reduction' is 'batch_mean'; allowed: batchmean, mean, sum
            6 |     loss: {name: mse, reduction: batch_mean}
              |                                  ^
              = help: did you mean 'batchmean'?
        net.yaml:7:36: error: 'samples' must be a whole number, not 2.5
            7 |   data: {synthetic: normal, samples: 2.5}
              |                                      ^
        net.yaml:8:17: error: unknown scheme 'centrl'; choose from adaptive, forward, backward, central, five-point, complex
            8 |   check: {scheme: centrl, rtol: .nan}
              |                   ^
              = help: did you mean 'central'?
        net.yaml:8:31: error: 'rtol' must be a finite number, not nan
            8 |   check: {scheme: centrl, rtol: .nan}
              |                                 ^
        net.yaml:9:8: error: 'dtype' is 'float16'; allowed: float64, float32
            9 |   dtype: float16
              |          ^
              = help: did you mean 'float64'?
        net.yaml:10:1: error: key 'dtype' is already given on line 9
           10 |   dtype: float64
              |   ^"""  # noqa: E501 (a message is one line)
    )


def test_a_missing_value_is_located_after_its_key():
    error = refused("network:\n  inputs:   # how many?\n\n  layers: [{units: }]\n  loss: mse\n" + DATA)
    assert places(error) == [
        (2, 10, "'inputs' must be a whole number, not nothing"),
        (4, 19, "'units' must be a whole number, not nothing"),
    ]


def test_a_missing_key_is_located_at_the_start_of_its_mapping():
    error = refused("# a\nnetwork:\n  inputs: 2\n  layers: [{activation: tanh}]\n")
    assert places(error) == [
        (2, 1, "missing key 'data'"),
        (3, 3, "missing key 'loss'"),
        (4, 12, "missing key 'units'"),
    ]


def test_thousands_of_errors_are_cut_after_a_hundred():
    complaints = refused(f"{NETWORK}data: {{x: [[{'a, ' * 5000}a]], y: [1]}}\n").complaints
    assert len(complaints) == 101
    assert [c.position.column for c in complaints[:100]] == [13 + 3 * i for i in range(100)]
    assert str(complaints[100]) == "error: and 4901 more like these"


# --- errors found later, located in the file -------------------------------------------------------------


def located(text: str, *where: str | int) -> Complaint:
    read = read_spec(written(text))
    (complaint,) = read.located(InputError(Complaint("wrong", where, "help"))).complaints
    return complaint


@pytest.mark.parametrize(
    ("where", "line", "column"),
    [
        (("network",), 1, 10),
        (("network", "layers", 0), 1, 31),
        (("network", "layers", 0, "units"), 1, 39),
        (("network", "layers", 0, "name"), 1, 31),  # absent, so it points to the layer
        (("network", "layers", 7, "units"), 1, 30),  # absent, so it points to the list
        (("network", "loss", "weight", 2), 1, 50),  # loss is a word, so it points to that
        (("data", "seed"), 2, 7),
        ((), 1, 1),
    ],
)
def test_a_later_complaint_points_at_the_deepest_part_that_is_written(where, line, column):
    complaint = located(NETWORK + DATA, *where)
    assert (complaint.position.line, complaint.position.column) == (line, column)
    assert (complaint.message, complaint.help) == ("wrong", "help")


def test_a_later_complaint_about_what_the_file_leaves_out_names_the_file():
    assert str(located(NETWORK + DATA, "parameters", "file")) == (
        "error: net.yaml: wrong\n      = help: help"
    )


def test_a_complaint_that_has_its_position_keeps_it():
    read = read_spec(written(NETWORK + DATA))
    placed = read.document.located(Complaint("wrong", ("data",)))
    assert read.document.located(placed) is placed


def test_a_merged_value_is_pointed_at_where_it_is_written_and_an_own_one_before_it():
    text = "network: {<<: {inputs: 1, loss: l1}, inputs: 2, layers: [{units: 1}]}\n" + DATA
    assert located(text, "network", "inputs").position.column == 46
    assert located(text, "network", "loss").position.column == 33


def test_later_complaints_are_put_in_reading_order_and_said_once():
    read = read_spec(written(NETWORK + DATA))
    late, early = Complaint("late", ("data",)), Complaint("early", ("network",))
    error = read.located(InputError(late, early, late))
    assert [complaint.message for complaint in error.complaints] == ["early", "late"]


# --- a small deterministic fuzz --------------------------------------------------------------------------

INLINE = {
    "network": {
        "inputs": 2,
        "layers": [
            {"units": 2, "activation": "tanh", "name": "h"},
            {"units": 2, "activation": {"name": "elu", "alpha": 0.5}},
        ],
        "loss": {"name": "cross_entropy", "scale": 0.5, "label_smoothing": 0.1, "weight": [1, 2.0]},
        "penalty": {"l2": 0.1, "biases": True},
    },
    "parameters": {"init": "normal", "scale": 0.1, "seed": 3, "bias": "same"},
    "data": {"x": [[1, 2], [0.5, 1]], "y": [0, 1], "rescale": {"from": [0, 1], "to": [-1, 1]}},
    "gradients": {"source": "backprop"},
    "check": {"parameters": ["h.*"], "scheme": "central", "step": 1e-5, "rtol": 1e-4, "seed": 1},
    "dtype": "float32",
}
FILES = {
    "network": {"inputs": 2, "layers": [{"units": 2, "name": "h"}], "loss": "mse"},
    "parameters": {"file": "w.npz"},
    "data": {"file": "d.npz", "x": "x", "y": "y", "start": 1, "batch": 2},
}
VALUES = [
    None, [], {}, "", True, 0, -1, 0.5, 10**7, -(10**400), 1e308, float("nan"), float("-inf"),
    "~nobody-of-this-name/x", "/", "\0", "\ud800", "*", "d.npz", [None], [[1], [2, 3]], [1e308, -1e308],
    {"name": 1}, {"file": "."}, {"x": [[1]], "y": [1]},
]  # fmt: skip
KEYS = ["", "unit", "x" * 300, "\x1b", "\ud800", "file"]


def paths(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def mutated(spec, path, change):
    """Return a copy of the spec after change(container of the path's last step, that step)."""
    spec = copy.deepcopy(spec)
    container = spec
    for step in path[:-1]:
        container = container[step]
    change(container, path[-1])
    return spec


def rename(new):
    def change(container, key):
        if isinstance(container, dict):
            items = [(new if k == key else k, v) for k, v in container.items()]
            container.clear()
            container.update(items)

    return change


def delete(container, key):
    del container[key]


def replace_by(value):
    def change(container, key):
        container[key] = copy.deepcopy(value)

    return change


CHANGES = {
    "deleted": delete,
    **{f"is {value!r:.20}": replace_by(value) for value in VALUES},
    **{f"key {key!r:.10}": rename(key) for key in KEYS},
}


def dump(value) -> str:
    """Write JSON, which is YAML except for numbers that JSON lacks."""
    text = json.dumps(value, indent=1)
    return text.replace("NaN", ".nan").replace("Infinity", ".inf").replace("-.inf", " -.inf")


def check_complaints(error: InputError, lines: list[str]) -> None:
    assert error.complaints
    for complaint in error.complaints:
        assert complaint.message
        assert len(complaint.message) < 400
        assert "Input should" not in complaint.message
        if complaint.position is not None:
            assert complaint.position.text == lines[complaint.position.line - 1]
            assert 1 <= complaint.position.column <= len(complaint.position.text) + 1
    assert len({(c.position, c.message) for c in error.complaints}) == len(error.complaints)


def read_and_build(text: str) -> bool:
    """Return whether the text is a good spec; the complaints about a bad one must be presentable."""
    try:
        read = read_spec(written(text.encode("utf-8", "surrogatepass")))
        try:
            build_problem(read.spec)
        except InputError as error:
            raise read.located(error) from None
    except InputError as error:
        check_complaints(error, text.split("\n"))
        return False
    return True


@pytest.fixture
def arrays(folder):
    rng = np.random.RandomState(0)
    np.savez(folder / "d.npz", x=rng.randn(5, 2), y=rng.randint(2, size=5))
    np.savez(folder / "w.npz", **{"h.weight": rng.randn(2, 2), "h.bias": rng.randn(2)})


@pytest.mark.parametrize("spec", [INLINE, FILES], ids=["inline", "files"])
def test_the_specs_to_be_mutated_are_good(arrays, spec):
    assert read_and_build(dump(spec))


@pytest.mark.parametrize("name", CHANGES)
def test_any_spec_is_read_or_refused(arrays, name):
    good = [
        read_and_build(dump(mutated(spec, path, CHANGES[name])))
        for spec in (INLINE, FILES)
        for path in paths(spec)
    ]
    assert not all(good)


def test_any_text_is_read_or_refused(arrays):
    letters = "ab01:-[]{},&*!|>'\"%@`#? \t\n.\\~<=é\x85\u2028\U0001f600/_+e"
    original = (
        "network:\n  inputs: 2\n  layers:\n    - {units: 2, name: h}\n  loss: {name: huber, delta: 1e-1}\n"
        "data: {file: 'd.npz', rescale: {from: [0, 1], to: [-1, 1]}}  # half\ncheck: {parameters: ['h.*']}\n"
    )
    rng = random.Random(0)
    good = 0
    for _ in range(400):
        text = list(original)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 5])] = rng.choice([rng.choice(letters), ""])
        good += read_and_build("".join(text))
    assert 0 < good < 400


def test_random_bytes_are_refused():
    rng = random.Random(0)
    for _ in range(200):
        data = bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
        assert refused(data).complaints
