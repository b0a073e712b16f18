"""What cannot be read, and what is no YAML."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from spec_text import DATA, NETWORK, only, places, refused, unreadable, written

from gradcheck_cli.spec.file import read_spec


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


def test_python_code_is_not_a_spec():
    Path("net.py").write_text("def loss(p):\n    return p\n")
    assert unreadable("net.py") == (
        "error: cannot read 'net.py': it is Python code, not a spec\n"
        "      = help: a spec is a YAML file that names the code, as in gradients: {python: net.py:FUNCTION}"
    )


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
