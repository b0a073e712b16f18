"""What is YAML but no plain data: tags, strange keys, values given twice."""

from __future__ import annotations

import os

import pytest
from spec_text import DATA, NETWORK, only, places, refused


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
