"""How complaints are printed, and the exit codes of errors."""

from __future__ import annotations

import itertools
import os

import pytest

from gradcheck_cli.errors import (
    Complaint,
    ExitCode,
    Gathered,
    GradcheckError,
    InputError,
    Position,
    UntrustedReferenceError,
    bad_input,
    closest,
    did_you_mean,
    did_you_mean_file,
    dotted,
    shortened,
    worst,
)

WORST_FIRST = [130, 70, 2, 1, 3, 0]


def test_exit_codes_are_those_that_scripts_rely_on():
    assert {code.name: code.value for code in ExitCode} == {
        "AGREES": 0,
        "WRONG": 1,
        "BAD_INPUT": 2,
        "UNDECIDED": 3,
        "DEFECT": 70,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(("i", "j"), list(itertools.combinations_with_replacement(range(6), 2)))
def test_the_worse_exit_code_of_two_specs_wins_in_either_order(i, j):
    codes = [ExitCode(WORST_FIRST[i]), ExitCode(WORST_FIRST[j])]
    assert worst(codes) == worst(reversed(codes)) == WORST_FIRST[i]


def test_without_any_spec_nothing_was_decided():
    assert worst([]) == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError(), 2), (UntrustedReferenceError("?"), 70), (GradcheckError("?"), 70)],
    ids=lambda each: type(each).__name__,
)
def test_every_error_knows_its_exit_code(error, code):
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ((), ""),
        (("network",), "network"),
        (("network", "layers", 0, "units"), "network.layers[0].units"),
        (("data", "x", 3, 2), "data.x[3][2]"),
    ],
)
def test_a_location_is_written_with_dots_and_brackets(where, text):
    assert dotted(where) == text


def test_a_complaint_with_a_position_shows_the_line_a_caret_and_the_help():
    complaint = Complaint(
        "unknown key 'activaton'",
        ("network", "layers", 0, "activaton"),
        "did you mean 'activation'?",
        Position("net.yaml", 5, 16, "  - {units: 8, activaton: tanh}"),
    )
    assert str(complaint).splitlines() == [
        "net.yaml:5:16: error: unknown key 'activaton'",
        "    5 |     - {units: 8, activaton: tanh}",
        "      |                  ^",
        "      = help: did you mean 'activation'?",
    ]


def test_a_complaint_without_a_position_names_its_location():
    complaint = Complaint("there is no file 'd.npz'", ("data", "file"))
    assert str(complaint) == "error: data.file: there is no file 'd.npz'"


def test_a_complaint_about_no_place_in_the_spec_is_its_message():
    assert str(Complaint("cannot read 'a.yaml'", help="look again")) == (
        "error: cannot read 'a.yaml'\n      = help: look again"
    )


def caret_and_character(text: str, column: int) -> tuple[int, str]:
    """Return the terminal column of the caret, and the character at that string index of the excerpt."""
    _, line, caret = str(Complaint("m", position=Position("f", 1, column, text))).splitlines()
    at = caret.index("^")
    return at, line[at : at + 1]


@pytest.mark.parametrize("column", [1, 40, 96, 97, 500, 1000])
def test_a_long_line_is_cut_around_the_caret(column):
    text = "".join(chr(ord("a") + i % 26) for i in range(1000))
    line = str(Complaint("m", position=Position("f", 1, column, text))).splitlines()[1]
    assert len(line) <= 110
    assert caret_and_character(text, column)[1] == text[column - 1]


def test_the_caret_may_stand_behind_the_end_of_the_line():
    assert caret_and_character("data: [", 8) == (len("    1 |   data: ["), "")


def test_a_tab_is_shown_as_one_column():
    assert caret_and_character("\tunits: 3", 2)[1] == "u"


def test_wide_characters_take_two_columns_and_combining_ones_none():
    narrow, _ = caret_and_character("abc: x", 6)
    wide, _ = caret_and_character("日本語: x", 6)
    combining, _ = caret_and_character("e\u0301: x", 5)
    plain, _ = caret_and_character("e: x", 4)
    assert (wide - narrow, combining - plain) == (3, 0)


def test_a_line_number_of_six_digits_keeps_line_and_caret_aligned():
    _, line, caret = str(Complaint("m", position=Position("f", 123456, 3, "a: b"))).splitlines()
    assert (line, caret) == ("123456 |   a: b", "       |     ^")


def test_what_a_spec_says_cannot_steer_the_terminal():
    position = Position("f\x1b[2J", 1, 1, "a\x1b[31mb\x9b\u202e")
    text = str(Complaint("unknown key '\x1b[31m\n'", help="\r\ud800", position=position))
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert "unknown key '\\x1b[31m\\n'" in text
    assert "help: \\r\\ud800" in text


def test_an_input_error_carries_all_its_complaints_and_prints_them():
    first, second = Complaint("one", ("a",)), Complaint("two", ("b", 0))
    error = InputError(first, second)
    assert error.complaints == (first, second)
    assert str(error) == "error: a: one\nerror: b[0]: two"


def test_bad_input_is_one_complaint_about_a_place():
    assert bad_input("no", "data", "x", 1, help="yes").complaints == (
        Complaint("no", ("data", "x", 1), "yes"),
    )


# --- several steps, all of whose complaints count --------------------------------------------------------


def test_steps_that_fail_are_all_reported_and_the_others_go_on():
    gathered, done = Gathered(), []
    for i in range(4):
        with gathered:
            if i % 2:
                raise bad_input(f"step {i}")
            done.append(i)
    with pytest.raises(InputError) as caught:
        gathered.raise_any()
    assert [complaint.message for complaint in caught.value.complaints] == ["step 1", "step 3"]
    assert done == [0, 2]


def test_without_a_failure_nothing_is_raised():
    gathered = Gathered()
    with gathered:
        pass
    assert gathered.raise_any() is None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UntrustedReferenceError])
def test_other_errors_are_not_gathered(error):
    with pytest.raises(error), Gathered():
        raise error


# --- hints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "close"),
    [("activaton", "activation"), ("unit", "units"), ("UNITS", "units"), ("zzz", None), (7, None)],
)
def test_the_closest_known_word_is_found_if_any_is_close(word, close):
    known = ["units", "activation", "name"]
    assert closest(word, known) == close
    assert did_you_mean(word, known) == (f"did you mean '{close}'?" if close else None)


def test_a_file_next_to_the_missing_one_is_suggested(tmp_path):
    (tmp_path / "digits.npz").touch()
    (tmp_path / "notes.txt").touch()
    assert did_you_mean_file(tmp_path / "digit.npz") == f"did you mean '{tmp_path / 'digits.npz'}'?"
    assert did_you_mean_file(tmp_path / "weights") is None


def test_a_file_in_the_current_folder_is_suggested_by_its_bare_name(tmp_path, monkeypatch):
    (tmp_path / "net.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert did_you_mean_file("nat.yaml") == "did you mean 'net.yaml'?"


def test_a_folder_that_cannot_be_listed_suggests_nothing(tmp_path, monkeypatch):
    assert did_you_mean_file(tmp_path / "absent" / "net.yaml") is None

    def refuse(_):
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    assert did_you_mean_file(tmp_path / "net.yaml") is None


@pytest.mark.parametrize(("length", "kept"), [(40, 40), (41, 40), (10**6, 40)])
def test_a_long_word_is_cut_with_an_ellipsis(length, kept):
    text = shortened("x" * length)
    assert len(text) == kept
    assert text.endswith("…") == (length > 40)
