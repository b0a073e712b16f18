from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pkgutil import iter_modules

import numpy as np
import pytest
from reports import HALF_KNOWN, RIGHT, UNKNOWN, WRONG, ZERO, comparison, diagnosis, report

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Diagnosis
from gradcheck_cli.formats import words
from gradcheck_cli.formats.words.remarks import remarks
from gradcheck_cli.formats.words.tensors import describe, headline
from gradcheck_cli.formats.words.verdicts import sentence
from gradcheck_cli.formats.words.why import Said, diagnosed
from gradcheck_cli.projected import Projected


def test_words_need_no_terminal():
    """Other tools may use them in plain text."""
    modules = ", ".join(
        f"gradcheck_cli.formats.words.{module.name}" for module in iter_modules(words.__path__)
    )
    seen = f"import sys, {modules}; print({{'rich', 'click'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ([WRONG], "output.bias: 2 of 3 entries are wrong"),
        ([comparison("w", [1.0, 2.0], [1.0, 3.0])], "w: 1 of 2 entries is wrong"),
        ([comparison("w", [1.0], [3.0])], "w: its only entry is wrong"),
        ([UNKNOWN], "hidden1.bias: 2 of 2 entries are unresolved"),
        ([HALF_KNOWN, RIGHT], "hidden1.bias: 1 of 3 entries is unresolved"),
        (
            [ZERO],
            "hidden1.weight: every gradient is 0 on both sides, so nothing was put to the test",
        ),
        ([RIGHT], "output.weight: agrees"),
    ],
)
def test_a_headline_says_what_is_wrong_with_a_tensor(tensors, says):
    assert headline(report(*tensors), tensors[0]) == says


def test_a_description_has_the_worst_entries_and_says_how_many_more_there_are():
    tensor = comparison("w", [1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 9.0, 8.0])
    assert describe(report(tensor), tensor, most=2) == [
        "w: 3 of 4 entries are wrong",
        "  w[2] is 3; finite differences give 9 ± 1e-12 (relative error 6.7e-01)",
        "  w[3] is 4; finite differences give 8 ± 1e-12 (relative error 5.0e-01)",
        "  and 1 more",
    ]


def test_a_constant_ratio_is_reported():
    doubled = comparison("w", [2.0, 4.0], [1.0, 2.0])
    assert describe(report(doubled), doubled)[-1] == "analytic / numerical is 2 in every entry."


def test_a_ratio_of_a_single_entry_is_reported_without_the_word_every():
    doubled = comparison("w", [2.0], [1.0])
    assert describe(report(doubled), doubled)[-1] == "analytic / numerical is 2."


def test_an_entry_without_a_numerical_value_says_why():
    assert describe(report(UNKNOWN), UNKNOWN)[1] == (
        "  hidden1.bias[0] is 1; every step crosses a kink or overflows (relative error –)"
    )


def test_only_wrong_tensors_have_a_diagnosis():
    whole = report(WRONG, UNKNOWN, diagnosis=diagnosis())
    assert describe(whole, WRONG)[-4:] == [
        "Why: the activation's derivative is missing from δ of layer output.",
        "  wrong: δ = ∂L/∂a   (see ∂a/∂z in gradcheck explain)",
        "  right: δ = ∂L/∂a · a (1 − a)",
        "  This explanation reproduces every entry, up to rounding.",
    ]
    assert not any("Why" in line for line in describe(whole, UNKNOWN))


def test_all_answers_are_given_the_likeliest_first():
    one = diagnosis().answers[0]
    (cause,) = one.causes
    other = replace(cause, sentence="The gradient is scaled.", factor="", unknown="scale", value=2.0)
    both = Answer((cause, other), 1e-15)
    said = list(diagnosed(replace(diagnosis(), answers=(one, both))))
    assert [each.text for each in said] == [
        f"Why: {cause.sentence}",
        "Other mistakes would give the same gradient on these data:",
    ]
    assert said[1].items == (f"Two mistakes at once. {cause.sentence} The gradient is scaled.",)


def test_findings_from_arrays_alone_are_worded_cautiously():
    said = list(diagnosed(replace(diagnosis(), basis="arrays")))
    assert (
        said[0].items[-1]
        == "This explanation reproduces everything that was measured, within the error bars."
    )
    assert said[-2].text == "Other mistakes can lead to the same arrays."
    assert "network: {inputs: N" in said[-1].text


def test_only_the_first_few_of_many_answers_are_given():
    (one,) = diagnosis().answers
    said = list(diagnosed(replace(diagnosis(), answers=(one,) * 6)))
    assert said[1].items == (*[one.causes[0].sentence] * 3, "2 more")


def test_a_diagnosis_without_an_answer_says_what_was_tried_and_what_is_known():
    said = list(diagnosed(Diagnosis((), 1234, ("The fault lies in layer output.",), ("output",), "network")))
    assert [each.text for each in said] == [
        "Why: unknown. gradcheck tried 1,234 wrong formulas, but none reproduces this gradient.",
        "What is known:",
    ]
    assert said[1].items == ("The fault lies in layer output.",)
    assert list(diagnosed(None)) == list(diagnosed(Diagnosis((), 0, (), (), "network"))) == []


def test_wholly_wrong_parts_are_named_by_their_place():
    analytic = np.array([[1.0, 1.0], [1.0, 1.0]])
    numerical, error = np.array([[0.5, np.nan], [1.0, np.nan]]), np.array([[1e-12, np.inf], [1e-12, np.inf]])
    masks = np.array([[False, False], [False, True]]), np.array([[False, True], [False, False]])
    tensor = replace(
        comparison("w", analytic, numerical), error=error, projected=Projected(masks[0], masks[1], 1e-6)
    )
    whole = replace(report(tensor), differences="directions")
    assert headline(whole, tensor) == "row 0 of w: 2 of 4 entries are wrong"


def test_without_an_answer_or_a_network_it_says_what_to_type():
    (said,) = diagnosed(Diagnosis((), 0, (), (), "arrays"))
    assert "network: {inputs: N" in said.text
    assert list(diagnosed(Diagnosis((), 0, (), (), "arrays", ("this is why",)))) == [
        Said("Why: this is why.")
    ]


def narrow(**fields):
    """What float16 leaves of a check: rounding may excuse nearly a tenth of each value."""
    values = np.array([1.0, 2.0, 3.0])
    return Comparison("w", 1.03 * values, values, np.zeros(3), 0.09 * values, 0.016, **fields)


def test_agreement_that_is_coarse_says_so_in_the_verdict():
    found = report(narrow(eps=float(np.finfo(np.float16).eps)))
    assert sentence(found) == (
        "agrees: all 3 entries, but coarsely: in float16 a typical entry could be 10 % off and still agree."
    )
    assert remarks(found)[-1] == "Gradients in float32 or float64 allow a finer check."


def test_a_tolerance_of_the_users_own_that_is_coarse_says_so():
    wide = comparison("w", [1.0, 2.0], [1.0, 2.02])
    found = report(replace(wide, rtol=0.05), rtol={"w": 0.05})
    assert sentence(found).endswith(
        "but coarsely: with rtol 0.05 a typical entry could be 5 % off and still agree."
    )


def test_where_no_error_would_show_it_says_so():
    values = np.array([1.0, 2.0, 3.0])
    found = report(Comparison("w", values, values, np.zeros(3), 3.0 * values, 1e-6))
    assert "a typical entry could be off by any amount and still agree" in sentence(found)


def test_a_fine_check_makes_no_reservation():
    assert sentence(report(RIGHT)) == "agrees: all 3 entries."
