"""All errors of a spec are reported at once, each where it stands."""

from __future__ import annotations

import textwrap

import pytest
from spec_text import DATA, NETWORK, places, refused, written

from gradcheck_cli.errors import Complaint, InputError
from gradcheck_cli.spec.file import read_spec


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
